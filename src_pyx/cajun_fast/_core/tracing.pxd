# Where messages meet a tracing library: is a span that is sampled current?
#
#   Pid.tell ─▶ Exchange.tracer is None ────────────────────────────────▶ nothing is traced: one test of a pointer
#                  └▶ sampled(): the library's context, looked at once ─▶ no: a look at a context variable and a test
#                        └▶ yes: send ─▶ Exchange.trace ─▶ frame's TRACE option ═▶ Mark.trace ─▶ handle
#
# Where no span is current at all, sampled or not, a message may begin a trace: `interval` says how often.
#
# A subclass in Python makes the spans (cajun_fast/metrics/tracing.py):
#   send(what, target, sender)            -> span of a message that goes, with `context`, `end(error)`, `end_with(future)`,
#                                            `numbered(stream, number)`
#   route(trace, target, verdict)         -> span of its wait for a way or for room, with `end(error)`, `numbered(…)`
#   handle(mark, target, type, ask, sender) -> span of its handler, current from now on, with `leave`, `enter`, `end(error)`
#   lost(trace, target, error)            it ended without a handler
#   current()                             -> what travels with a message that belongs to the current span, or None
# None of them may raise. `send` and `handle` may answer None: no span.

from libc.stdint cimport int64_t, uint32_t
from cajun_fast._core.lane cimport Exchange
from cajun_fast._core.ports cimport Tracer

cdef class Tracing(Tracer):
    cdef object variable        # ContextVar whose value is the library's context, an object that never changes; or None
    cdef object seen            # the context that was looked at last
    cdef int seen_sampled       # 1, 0, or NO_SPAN
    cdef Exchange exchange
    cdef int64_t interval       # ns between two traces that are begun here, on average; 0: none is
    cdef int64_t next_at        # coarse ns: a trace may begin from then on
    cdef uint32_t step          # intervals vary by it, so that no rhythm is met

    cdef bint begins(self) noexcept
