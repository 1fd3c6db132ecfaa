/* Which edges an input takes: the compiler calls this at every basic block (-fsanitize-coverage=trace-pc). Loaded before
 * everything else, in front of the instrumented modules; never instrumented itself. fuzz.py reads the map. */
#include <stdint.h>
#include <string.h>

#define EDGES 65536

static uint8_t map[EDGES];  /* how often each edge was taken by this input */
static uint8_t seen[EDGES]; /* which orders of magnitude of it any input has shown */
static __thread uintptr_t before;

void __sanitizer_cov_trace_pc(void)
{
    uintptr_t here = (uintptr_t)__builtin_return_address(0);
    uintptr_t mixed = here * 0x9E3779B97F4A7C15u >> 40;
    uint8_t *count = map + ((mixed ^ before) & (EDGES - 1));
    *count += *count < 255;
    before = mixed >> 1;
}

void cover_begin(void)
{
    memset(map, 0, sizeof map);
    before = 0;
}

/* How much of what this input did is new; it is known from now on. */
int cover_news(void)
{
    int news = 0;
    for (int i = 0; i < EDGES; i++) {
        uint8_t count = map[i], order = 0;
        if (count == 0)
            continue;
        while (count > 1 && order < 7)
            count >>= 1, order++;
        if (!(seen[i] & (1 << order))) {
            seen[i] |= (uint8_t)(1 << order);
            news++;
        }
    }
    return news;
}

int cover_edges(void)
{
    int edges = 0;
    for (int i = 0; i < EDGES; i++)
        edges += seen[i] != 0;
    return edges;
}
