/* The beat of a process. See beat.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "beat.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STACK (128 * 1024)
#define AT_ONCE 256 /* datagrams taken in before the clock is looked at again */
#define SIGNED (BEAT_SIZE - 8)

typedef struct {
    int expecting, sending, heard;
    unsigned char key_in[BEAT_KEY], key_out[BEAT_KEY];
    uint64_t number_in, number_out, turns;
    int64_t heard_ns, standing_ns;
    uint32_t id_out;
    struct sockaddr_storage to;
    socklen_t to_size;
} slot_t;

struct beat_heart {
    pthread_mutex_t mutex; /* of everything below but the descriptors */
    pthread_t thread;
    pid_t process; /* a forked child has this memory, and no thread */
    int fd, family, stop_read, stop_write;
    int64_t interval_ns, turned_ns;
    uint64_t turns, dropped;
    slot_t *slots;
    uint32_t count;
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void store32(unsigned char *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

static void store64(unsigned char *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t load(const unsigned char *at, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes - 1; i >= 0; i--)
        value = value << 8 | at[i];
    return value;
}

/* ---- SipHash-2-4, as its authors define it --------------------------------------------------------------------- */

static uint64_t rotated(uint64_t value, int by)
{
    return value << by | value >> (64 - by);
}

static void sip_rounds(uint64_t v[4], int rounds)
{
    while (rounds-- > 0) {
        v[0] += v[1], v[2] += v[3];
        v[1] = rotated(v[1], 13) ^ v[0], v[3] = rotated(v[3], 16) ^ v[2];
        v[0] = rotated(v[0], 32);
        v[2] += v[1], v[0] += v[3];
        v[1] = rotated(v[1], 17) ^ v[2], v[3] = rotated(v[3], 21) ^ v[0];
        v[2] = rotated(v[2], 32);
    }
}

uint64_t beat_siphash(const unsigned char key[BEAT_KEY], const unsigned char *data, size_t size)
{
    uint64_t low = load(key, 8), high = load(key + 8, 8), word;
    uint64_t v[4] = {low ^ 0x736f6d6570736575, high ^ 0x646f72616e646f6d, low ^ 0x6c7967656e657261,
                     high ^ 0x7465646279746573};
    size_t whole = size / 8 * 8;
    for (size_t at = 0; at <= whole; at += 8) {
        word = at < whole ? load(data + at, 8) : load(data + at, (int)(size - whole)) | (uint64_t)size << 56;
        v[3] ^= word;
        sip_rounds(v, 2);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    sip_rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* ---- the thread ------------------------------------------------------------------------------------------------- */

static void send_all(beat_heart *heart, int64_t now)
{
    unsigned char beat[BEAT_SIZE] = {0xCF, 0xBE, 1, 0};
    pthread_mutex_lock(&heart->mutex);
    store64(beat + 16, heart->turns);
    store64(beat + 24, (uint64_t)(now - heart->turned_ns));
    for (uint32_t i = 0; i < heart->count; i++) {
        slot_t *slot = heart->slots + i;
        if (!slot->sending)
            continue;
        store32(beat + 4, slot->id_out);
        store64(beat + 8, ++slot->number_out);
        store64(beat + 32, beat_siphash(slot->key_out, beat, SIGNED));
        /* It never blocks; what cannot go now is made up for by the next one. */
        (void)sendto(heart->fd, beat, BEAT_SIZE, MSG_DONTWAIT, (struct sockaddr *)&slot->to, slot->to_size);
    }
    pthread_mutex_unlock(&heart->mutex);
}

static int is_genuine(const slot_t *slot, const unsigned char *beat)
{
    return slot->expecting && load(beat + 8, 8) > slot->number_in &&
           load(beat + 32, 8) == beat_siphash(slot->key_in, beat, SIGNED);
}

void beat_take_in(beat_heart *heart, const unsigned char *beat, ssize_t size)
{
    uint64_t id = size == BEAT_SIZE ? load(beat + 4, 4) : UINT64_MAX;
    slot_t *slot;
    pthread_mutex_lock(&heart->mutex);
    slot = id < heart->count ? heart->slots + id : NULL;
    if (slot != NULL && beat[0] == 0xCF && beat[1] == 0xBE && beat[2] == 1 && is_genuine(slot, beat)) {
        slot->heard = 1;
        slot->heard_ns = now_ns();
        slot->number_in = load(beat + 8, 8);
        slot->turns = load(beat + 16, 8);
        slot->standing_ns = (int64_t)(load(beat + 24, 8) & INT64_MAX);
    } else {
        heart->dropped++;
    }
    pthread_mutex_unlock(&heart->mutex);
}

static void receive_all(beat_heart *heart)
{
    unsigned char beat[BEAT_SIZE + 1]; /* one byte more shows that a datagram was longer */
    ssize_t size;
    for (int i = 0; i < AT_ONCE; i++) {
        size = recv(heart->fd, beat, sizeof beat, MSG_DONTWAIT);
        if (size < 0 && errno != ECONNREFUSED)
            return;
        beat_take_in(heart, beat, size);
    }
}

static void *run(void *argument)
{
    beat_heart *heart = argument;
    struct pollfd polled[2] = {{heart->fd, POLLIN, 0}, {heart->stop_read, POLLIN, 0}};
    int64_t now, next = now_ns();
    for (;;) {
        now = now_ns();
        if (now >= next) {
            send_all(heart, now);
            next = now + heart->interval_ns;
        }
        if (poll(polled, 2, (int)((next - now + 999999) / 1000000)) < 0 && errno != EINTR)
            return NULL;
        if (polled[1].revents)
            return NULL;
        if (polled[0].revents)
            receive_all(heart);
    }
}

/* Signals belong to the interpreter's main thread: this one takes none. */
static int start_thread(beat_heart *heart)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int error;
    if (pthread_attr_init(&attributes))
        return -1;
    pthread_attr_setstacksize(&attributes, STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&heart->thread, &attributes, run, heart);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error) {
        errno = error;
        return -1;
    }
#ifdef __linux__
    pthread_setname_np(heart->thread, "cajun-heart");
#endif
    return 0;
}

static void release(beat_heart *heart)
{
    if (heart->stop_read >= 0)
        close(heart->stop_read);
    if (heart->stop_write >= 0)
        close(heart->stop_write);
    close(heart->fd);
    pthread_mutex_destroy(&heart->mutex);
    free(heart->slots);
    free(heart);
}

beat_heart *beat_start(int fd, int64_t interval_ns)
{
    struct sockaddr_storage own;
    socklen_t size = sizeof own;
    int ends[2] = {-1, -1};
    beat_heart *heart = calloc(1, sizeof *heart);
    if (heart == NULL || getsockname(fd, (struct sockaddr *)&own, &size)) {
        free(heart);
        close(fd);
        return NULL;
    }
    heart->fd = fd;
    heart->family = own.ss_family;
    heart->process = getpid();
    heart->interval_ns = interval_ns;
    heart->turned_ns = now_ns();
    pthread_mutex_init(&heart->mutex, NULL);
    if (pipe(ends) == 0) {
        fcntl(ends[0], F_SETFD, FD_CLOEXEC);
        fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    }
    heart->stop_read = ends[0];
    heart->stop_write = ends[1];
    if (ends[0] < 0 || start_thread(heart)) {
        release(heart);
        return NULL;
    }
    return heart;
}

void beat_stop(beat_heart *heart)
{
    if (heart->process == getpid()) {
        while (write(heart->stop_write, "", 1) < 0 && errno == EINTR)
            continue;
        pthread_join(heart->thread, NULL);
    }
    release(heart);
}

/* ---- the table --------------------------------------------------------------------------------------------------- */

void beat_turn(beat_heart *heart)
{
    pthread_mutex_lock(&heart->mutex);
    heart->turns++;
    heart->turned_ns = now_ns();
    pthread_mutex_unlock(&heart->mutex);
}

/* The slot, made if need be; the mutex is held. */
static slot_t *slot_at(beat_heart *heart, uint32_t number)
{
    slot_t *slots;
    uint32_t count = heart->count ? heart->count : 8;
    if (number >= BEAT_SLOTS)
        return NULL;
    if (number < heart->count)
        return heart->slots + number;
    while (count <= number)
        count *= 2;
    slots = realloc(heart->slots, count * sizeof *slots);
    if (slots == NULL)
        return NULL;
    memset(slots + heart->count, 0, (count - heart->count) * sizeof *slots);
    heart->slots = slots;
    heart->count = count;
    return slots + number;
}

int beat_expect(beat_heart *heart, uint32_t number, const unsigned char key[BEAT_KEY])
{
    slot_t *slot;
    pthread_mutex_lock(&heart->mutex);
    slot = slot_at(heart, number);
    if (slot != NULL) {
        slot->expecting = 1;
        slot->number_in = 0;
        memcpy(slot->key_in, key, BEAT_KEY);
    }
    pthread_mutex_unlock(&heart->mutex);
    return slot == NULL ? -1 : 0;
}

static int parse_address(int family, const char *host, uint16_t port, struct sockaddr_storage *to, socklen_t *size)
{
    memset(to, 0, sizeof *to);
    to->ss_family = (sa_family_t)family;
    if (family == AF_INET) {
        struct sockaddr_in *ip4 = (struct sockaddr_in *)to;
        ip4->sin_port = htons(port);
        *size = sizeof *ip4;
        return inet_pton(AF_INET, host, &ip4->sin_addr) == 1 ? 0 : -1;
    }
    struct sockaddr_in6 *ip6 = (struct sockaddr_in6 *)to;
    ip6->sin6_port = htons(port);
    *size = sizeof *ip6;
    return inet_pton(AF_INET6, host, &ip6->sin6_addr) == 1 ? 0 : -1;
}

int beat_send_to(beat_heart *heart, uint32_t number, const char *host, uint16_t port, uint32_t id,
                 const unsigned char key[BEAT_KEY])
{
    struct sockaddr_storage to;
    socklen_t size;
    slot_t *slot;
    if (parse_address(heart->family, host, port, &to, &size))
        return -1;
    pthread_mutex_lock(&heart->mutex);
    slot = slot_at(heart, number);
    if (slot != NULL) {
        if (memcmp(slot->key_out, key, BEAT_KEY) != 0)
            slot->number_out = 0;
        memcpy(slot->key_out, key, BEAT_KEY);
        slot->sending = 1;
        slot->to = to;
        slot->to_size = size;
        slot->id_out = id;
    }
    pthread_mutex_unlock(&heart->mutex);
    return slot == NULL ? -1 : 0;
}

void beat_forget(beat_heart *heart, uint32_t number)
{
    pthread_mutex_lock(&heart->mutex);
    if (number < heart->count)
        memset(heart->slots + number, 0, sizeof *heart->slots);
    pthread_mutex_unlock(&heart->mutex);
}

int beat_last(beat_heart *heart, uint32_t number, beat_pulse *pulse)
{
    int heard = 0;
    pthread_mutex_lock(&heart->mutex);
    if (number < heart->count && heart->slots[number].heard) {
        const slot_t *slot = heart->slots + number;
        heard = 1;
        pulse->age_ns = now_ns() - slot->heard_ns;
        pulse->standing_ns = slot->standing_ns;
        pulse->turns = slot->turns;
        pulse->number = slot->number_in;
    }
    pthread_mutex_unlock(&heart->mutex);
    return heard;
}

uint64_t beat_dropped(beat_heart *heart)
{
    uint64_t dropped;
    pthread_mutex_lock(&heart->mutex);
    dropped = heart->dropped;
    pthread_mutex_unlock(&heart->mutex);
    return dropped;
}
