"""The errors a client can see, with the status and code each becomes on the wire.

    ServingError
    ├── InvalidRequest            400  the client's words are wrong; `param` names the first wrong field
    │   └── ContextLengthExceeded 400
    ├── InvalidApiKey             401
    ├── PermissionDenied          403
    ├── NotFound                  404  no such path
    │   └── ModelNotFound         404  no such model, version, label or adapter
    ├── MethodNotAllowed          405
    ├── RequestTimeout            408  a slow body
    ├── RequestTooLarge           413
    ├── UnsupportedMediaType      415
    ├── RateLimitExceeded         429  this tenant's budget
    ├── ModelError                500  the engine or the model broke; never overload
    ├── Unavailable               503  the server's state, nobody's fault
    │   ├── Overloaded
    │   ├── ModelNotReady
    │   └── Draining
    └── DeadlineExceeded          504  the client's own deadline passed, or cannot be met

The class says who is to blame. Messages are written for the client: no path, address or repr in them.
"""


class ServingError(Exception):
    """An answer other than the one that was asked for.

    `param` names the request field at fault; `retry_after_s` (seconds) becomes the `Retry-After` header.
    """

    status = 500
    code = "model_error"
    type = "server_error"

    def __init__(self, message: str, *, param: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s


class InvalidRequest(ServingError):
    status, code, type = 400, "invalid_request_error", "invalid_request_error"


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"


class InvalidApiKey(ServingError):
    status, code, type = 401, "invalid_api_key", "authentication_error"


class PermissionDenied(ServingError):
    status, code, type = 403, "permission_denied", "permission_error"


class NotFound(ServingError):
    status, code, type = 404, "not_found", "invalid_request_error"


class ModelNotFound(NotFound):
    code = "model_not_found"


class MethodNotAllowed(ServingError):
    status, code, type = 405, "method_not_allowed", "invalid_request_error"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow  # the methods that the path takes


class RequestTimeout(ServingError):
    status, code, type = 408, "request_timeout", "invalid_request_error"


class RequestTooLarge(ServingError):
    status, code, type = 413, "request_too_large", "invalid_request_error"


class UnsupportedMediaType(ServingError):
    status, code, type = 415, "unsupported_media_type", "invalid_request_error"


class RateLimitExceeded(ServingError):
    status, code, type = 429, "rate_limit_exceeded", "rate_limit_error"


class ModelError(ServingError):
    status, code, type = 500, "model_error", "server_error"


class Unavailable(ServingError):
    status, code, type = 503, "overloaded", "server_error"


class Overloaded(Unavailable):
    pass


class ModelNotReady(Unavailable):
    code = "model_not_ready"


class Draining(Unavailable):
    code = "draining"


class DeadlineExceeded(ServingError):
    status, code, type = 504, "deadline_exceeded", "timeout_error"


def error_of(code: str, message: str, param: str | None = None) -> ServingError:
    """The error that another process of this server answered with; ModelError for a code that is nobody's."""
    kinds = (InvalidRequest, PermissionDenied, ModelNotFound, Overloaded, ModelNotReady, Draining)
    kind = next((kind for kind in kinds if kind.code == code), ModelError)
    return kind(message, param=param)
