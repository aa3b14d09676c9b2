/** \file
 * The rendezvous of a job for programs in any language (C99): join, unique ids, store, barrier, the end of the
 * generation. For programs that `llmlaunch run` has started; link -lllmlaunch_rendezvous, or load the library at run time.
 *
 * Handles    A handle belongs to the caller from join to llmlaunch_rdv_leave. All functions may be called from any
 *            thread and at the same time, but not with or after the leave of the same handle. They block until they
 *            have an answer, at most for their timeout (and 10 s more for a launcher that does not answer at all).
 * Errors     A function returns LLMLAUNCH_RDV_OK or another llmlaunch_rdv_status; llmlaunch_rdv_error_text() then says
 *            what failed, where, and what to do. Results are set on LLMLAUNCH_RDV_OK only.
 * Memory     What a function allocates for the caller is freed by llmlaunch_rdv_free. Arguments are copied.
 * Times      timeout_ms < 0: the timeout that the handle was made with. 0: do not wait.
 * Keys       Texts of 1 to 8192 bytes, values of up to 8 MiB. A job's store ends with its generation.
 * fork       A child may not use the handle of its parent; it inherits no descriptor over exec.
 *
 * The library's ABI number changes when a function changes; functions and statuses may be added.
 */
#ifndef LLMLAUNCH_RENDEZVOUS_H
#define LLMLAUNCH_RENDEZVOUS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** What became of a call. New values may come: treat those that you do not know as failures. */
typedef enum llmlaunch_rdv_status {
  LLMLAUNCH_RDV_OK = 0,
  LLMLAUNCH_RDV_TIMED_OUT = 1,
  LLMLAUNCH_RDV_CANCELED = 2,
  LLMLAUNCH_RDV_REFUSED = 3,
  LLMLAUNCH_RDV_CLOSED = 4, /**< the connection is lost, or a rank that was needed has gone */
  LLMLAUNCH_RDV_PROTOCOL = 5,
  LLMLAUNCH_RDV_TOO_LARGE = 6,
  LLMLAUNCH_RDV_VERSION_MISMATCH = 7, /**< of the protocol, or of NCCL between two ranks */
  LLMLAUNCH_RDV_UNAUTHENTICATED = 8,
  LLMLAUNCH_RDV_DUPLICATE_RANK = 9,
  LLMLAUNCH_RDV_STALE_GENERATION = 10,
  LLMLAUNCH_RDV_WRONG_WORLD = 11,
  LLMLAUNCH_RDV_GENERATION_ENDED = 12, /**< another rank has failed, or the job is stopped: end, too */
  LLMLAUNCH_RDV_NOT_FOUND = 13,        /**< also: an environment variable is missing */
  LLMLAUNCH_RDV_INVALID_ARGUMENT = 14,
  LLMLAUNCH_RDV_UNSUPPORTED = 15, /**< the launcher is older than this function */
  LLMLAUNCH_RDV_OUT_OF_RESOURCES = 16,
  LLMLAUNCH_RDV_UNREACHABLE = 17,
  LLMLAUNCH_RDV_SYSTEM = 18 /**< a system call failed */
} llmlaunch_rdv_status;

/** Bytes of a unique id: NCCL_UNIQUE_ID_BYTES. */
#define LLMLAUNCH_RDV_UNIQUE_ID_BYTES 128

/** A joined rank or observer. */
typedef struct llmlaunch_rdv llmlaunch_rdv;
/** A watch on the store. */
typedef struct llmlaunch_rdv_watch llmlaunch_rdv_watch;

/** For llmlaunch_rdv_join. Set everything to 0, then `size`, then what is known. */
typedef struct llmlaunch_rdv_options {
  size_t size;             /**< sizeof(llmlaunch_rdv_options): a later library knows what this program has */
  const char *address;     /**< of the rendezvous: IP or name */
  const char *job_id;
  const char *token;       /**< 64 hex digits; a secret */
  const char *host;        /**< this host's name, for messages; NULL: empty */
  uint32_t generation;
  uint32_t rank;
  uint32_t world_size;
  int nccl_version;        /**< ncclGetVersion's number; 0: no NCCL. Ranks that differ are told before they meet */
  uint16_t port;
  uint16_t observer;       /**< not 0: no rank; has the store, no barrier, and nobody waits for it */
  int64_t timeout_ms;      /**< of each call that is given none; 0: 300 s */
  int64_t join_timeout_ms; /**< of the join; 0: timeout_ms */
} llmlaunch_rdv_options;

/** Why the last call of this thread failed: text, without end of line. Belongs to the library, until the next call of
 * this thread. Never NULL. */
const char *llmlaunch_rdv_error_text(void);
/** The name of a status, "timed_out"; "unknown" for a number that is none. A constant. */
const char *llmlaunch_rdv_status_name(int status);
/** Frees what a function has allocated. NULL is allowed. */
void llmlaunch_rdv_free(void *memory);

/** Joins as the rank that llmlaunch has made of this process (RANK, WORLD_SIZE, LLMLAUNCH_*). `nccl_version` as in the
 * options. */
int llmlaunch_rdv_join_environment(int nccl_version, llmlaunch_rdv **joined);
/** Joins with options. Tries again until its deadline when the rendezvous cannot be reached. */
int llmlaunch_rdv_join(const llmlaunch_rdv_options *options, llmlaunch_rdv **joined);
/** Leaves in order and frees the handle; its end descriptor is closed, its watches end. NULL is allowed. Not from within
 * the callback of llmlaunch_rdv_on_end. */
void llmlaunch_rdv_leave(llmlaunch_rdv *joined);

/** Who this is: as the environment or the options said. They need no server. */
uint32_t llmlaunch_rdv_rank(const llmlaunch_rdv *joined);
uint32_t llmlaunch_rdv_world_size(const llmlaunch_rdv *joined);
uint32_t llmlaunch_rdv_generation(const llmlaunch_rdv *joined);

/** Publishes the unique id number `index` of this generation: 128 bytes. Once; the same bytes again are no error. */
int llmlaunch_rdv_publish_unique_id(llmlaunch_rdv *joined, uint32_t index, const void *id);
/** Waits for a unique id and writes its 128 bytes to `id`. */
int llmlaunch_rdv_unique_id(llmlaunch_rdv *joined, uint32_t index, int64_t timeout_ms, void *id);

/** For ncclCommInitRankScalable: writes `count` unique ids in order, 128 bytes each, to `ids`, the same on every rank. All
 * ranks of the world call it with the same count, from 1 to the number of ranks; `make_id` is called on those that make one
 * (number i on rank i * world_size / count), writes 128 bytes and gives 0, or anything else, which fails the call with
 * LLMLAUNCH_RDV_CANCELED. They are the unique ids 0 to count - 1 of this generation. */
int llmlaunch_rdv_share_unique_ids(llmlaunch_rdv *joined, uint32_t count, int (*make_id)(void *user, void *id),
                                   void *user, void *ids);

/** Waits until all ranks of the generation are in the barrier of this name. */
int llmlaunch_rdv_barrier(llmlaunch_rdv *joined, const char *name, int64_t timeout_ms);

/** Sets a key. `value` may be NULL when `size` is 0. Returns when the value is on its way; should the launcher refuse it
 * (the store is full), the call that waits then, or the next one, fails with "setting key ..." and the reason. */
int llmlaunch_rdv_set(llmlaunch_rdv *joined, const char *key, const void *value, size_t size);
/** Waits until the key exists and gives its value: memory for llmlaunch_rdv_free, never NULL, with a 0 byte behind it
 * that `size` does not count. */
int llmlaunch_rdv_get(llmlaunch_rdv *joined, const char *key, int64_t timeout_ms, void **value, size_t *size);
/** Waits until all `count` keys exist at once. */
int llmlaunch_rdv_wait(llmlaunch_rdv *joined, const char *const *keys, size_t count, int64_t timeout_ms);
/** Adds to a number kept as decimal text, a missing key being 0. `sum` may be NULL. */
int llmlaunch_rdv_add(llmlaunch_rdv *joined, const char *key, int64_t delta, int64_t *sum);
/** Sets the key if its value is `expected` (NULL: if it is missing). `swapped` becomes 1 or 0; when it is 0 and `found` is
 * not NULL, `*found` and `*found_size` become what the key has instead, as by llmlaunch_rdv_get, or NULL and 0 when it is
 * missing; when it is 1, they become NULL and 0. */
int llmlaunch_rdv_compare_and_set(llmlaunch_rdv *joined, const char *key, const void *expected, size_t expected_size,
                                  const void *value, size_t size, int *swapped, void **found, size_t *found_size);
/** Appends to the key's value, a missing one being empty. `new_size` may be NULL. */
int llmlaunch_rdv_append(llmlaunch_rdv *joined, const char *key, const void *value, size_t size, uint64_t *new_size);
/** Deletes a key. `existed`, which may be NULL, becomes 1 or 0. */
int llmlaunch_rdv_delete(llmlaunch_rdv *joined, const char *key, int *existed);
/** Keys that begin with `prefix` and are greater than `after` ("" for all), in byte order, at most `limit` (0: as many as
 * fit in one answer). `*keys` is one allocation for llmlaunch_rdv_free, pointers and texts together. `more` becomes 1 when
 * there are keys behind the last. */
int llmlaunch_rdv_list(llmlaunch_rdv *joined, const char *prefix, const char *after, uint32_t limit, char ***keys,
                       size_t *count, int *more);

/** Begins to watch a key, or, when `prefix` is not 0, all keys that begin with it: every later change is given, in order,
 * by llmlaunch_rdv_watch_next. */
int llmlaunch_rdv_watch_begin(llmlaunch_rdv *joined, const char *key, int prefix, llmlaunch_rdv_watch **watch);
/** Waits for the next change: a key and its new value, both for llmlaunch_rdv_free; `*value` is NULL when the key was
 * deleted. LLMLAUNCH_RDV_TIMED_OUT: no change yet. All other failures end the watch, LLMLAUNCH_RDV_OUT_OF_RESOURCES because
 * changes were not taken in time and some are lost. */
int llmlaunch_rdv_watch_next(llmlaunch_rdv_watch *watch, int64_t timeout_ms, char **key, void **value, size_t *size);
/** A descriptor that is readable while llmlaunch_rdv_watch_next would not wait: a change is there, or the watch has ended.
 * For poll or an event loop, which may read it empty, with llmlaunch_rdv_watch_next(watch, 0, ...) until it says
 * LLMLAUNCH_RDV_TIMED_OUT. Belongs to the watch; do not close it. */
int llmlaunch_rdv_watch_descriptor(llmlaunch_rdv_watch *watch, int *descriptor);
/** Ends a watch and frees it. NULL is allowed. May come after the leave of its handle, but not during a call for it. */
void llmlaunch_rdv_watch_end(llmlaunch_rdv_watch *watch);

/** A descriptor that becomes and stays readable when the generation ends or the connection is lost, for poll or an event
 * loop. Belongs to the handle; do not read from it or close it. */
int llmlaunch_rdv_end_descriptor(const llmlaunch_rdv *joined);
/** Why the generation ended, or NULL while it goes on. Belongs to the handle. */
const char *llmlaunch_rdv_end_reason(const llmlaunch_rdv *joined);
/** Calls `callback` once when the generation ends or the connection is lost, from a thread of the library, or at once if
 * that has happened. A later call replaces the callback; NULL takes it away. `reason` lives during the callback. */
void llmlaunch_rdv_on_end(llmlaunch_rdv *joined, void (*callback)(void *user, const char *reason), void *user);

#ifdef __cplusplus
}
#endif

#endif
