/* The ring and its bell, with kill -9 of either end at any step, for every interleaving.
 *
 *   producer   write the records of a message, publish by one store of tail, fence, ring if the flag says so
 *   consumer   read whole messages, raise the flag, fence, look once more, sleep
 *   memory     lets a store wait in its processor's buffer (TSO) until a fence; goes on after the processor is gone
 *   killer     ends the producer, the consumer, or nobody, at any moment
 *
 * Proved: a message is read whole, once and in order; no wake-up is lost while the producer lives; a producer's death
 * wedges nobody, and all it published is read at the next turn; a consumer's death wedges nobody; a sleep is rung at
 * most once. Each MUTANT_ takes away one thing that the proof needs, and must fail.
 */
#ifndef CAPACITY
#define CAPACITY 4
#endif
#ifndef MESSAGES
#define MESSAGES 3
#endif

typedef Record { byte message; byte cells; byte part };

Record ring[CAPACITY];
byte tail, head;          /* shared; they grow for ever */
bool sleeping;            /* shared */
byte eventfd;             /* the kernel's */

byte stored_tail;         /* the producer's store buffer */
bool tail_waits;
bool sleeping_waits;      /* the consumer's: sleeping := true */

bool producer_killed, consumer_killed;
byte rings, sleeps;

active proctype memory()
{
end:
  do
  :: atomic { tail_waits -> tail = stored_tail; tail_waits = false }
  :: atomic { sleeping_waits -> sleeping = true; sleeping_waits = false }
  od
}

active proctype killer()
{
  if
  :: producer_killed = true
  :: consumer_killed = true
  :: skip
  fi
}

#ifdef MUTANT_PRODUCER_FENCE
#define PRODUCER_FENCE skip
#else
#define PRODUCER_FENCE !tail_waits
#endif

inline publish()
{
  atomic { !tail_waits -> stored_tail = mine; tail_waits = true }
}

inline write_records()
{
  part = 0;
  do
  :: part < cells ->
    ring[(first + part) % CAPACITY].message = message;
    ring[(first + part) % CAPACITY].cells = cells;
    ring[(first + part) % CAPACITY].part = part;
    part++
  :: else -> break
  od
}

active proctype producer()
{
  byte message = 1, mine, first, cells, part;
  bool rung;
  {
    do
    :: message <= MESSAGES ->
      if
      :: cells = 1
      :: cells = 2
      :: cells = 3
      fi;
      if
      :: CAPACITY - (mine - head) >= cells ->
        first = mine;
        mine = mine + cells;
#ifdef MUTANT_PUBLISH_FIRST
        publish();
        write_records();
#else
        write_records();
        publish();
#endif
        PRODUCER_FENCE;
        if
        :: sleeping ->
          atomic { rung = sleeping; sleeping = false };
          if
          :: rung -> rings++; assert(rings <= sleeps); eventfd++
          :: else
          fi
        :: else
        fi
      :: else /* full is an answer */
      fi;
      message++
    :: else -> break
    od
  } unless { producer_killed }
}

#ifdef MUTANT_CONSUMER_FENCE
#define CONSUMER_FENCE skip
#else
#define CONSUMER_FENCE !sleeping_waits
#endif
#ifdef MUTANT_SECOND_LOOK
#define NOTHING_CAME true
#else
#define NOTHING_CAME (tail == mine)
#endif

inline read_message()
{
  message = ring[mine % CAPACITY].message;
  cells = ring[mine % CAPACITY].cells;
  assert(message > last && cells >= 1 && cells <= seen - mine);
  part = 0;
  do
  :: part < cells ->
    assert(ring[(mine + part) % CAPACITY].message == message);
    assert(ring[(mine + part) % CAPACITY].cells == cells);
    assert(ring[(mine + part) % CAPACITY].part == part);
    part++
  :: else -> break
  od;
  last = message;
  mine = mine + cells;
  head = mine
}

active proctype consumer()
{
  byte mine, seen, message, last, cells, part;
  {
    do
    :: true ->
      seen = tail;
      do
      :: seen != mine -> read_message()
      :: else -> break
      od;
      atomic { !sleeping_waits -> sleeping_waits = true; sleeps++ };
      CONSUMER_FENCE;
      if
      :: NOTHING_CAME ->
        if
        :: eventfd > 0 -> eventfd = 0
        :: timeout -> /* nobody can do anything more: the bound of the sleep */
          assert(producer_killed || tail == mine);
          if
          :: tail == mine -> break
          :: else
          fi
        fi
      :: else
      fi;
      atomic { !sleeping_waits -> sleeping = false }
    od
  } unless { consumer_killed }
}
