# Where messages meet a tracing library: is a span that is sampled current?
#
#   Pid.tell ─▶ Exchange.tracer is None ────────────────────────────────▶ nothing is traced: one test of a pointer
#                  └▶ sampled(): the library's context, looked at once ─▶ no: a look at a context variable and a test
#                        └▶ yes: send ─▶ Exchange.trace ─▶ frame's TRACE option ═▶ Mark.trace ─▶ handle
#
# A subclass in Python makes the spans (cajun_fast/metrics/tracing.py):
#   send(what, target, sender)            -> span of a message that goes, with `context`, `end(error)`, `end_with(future)`
#   route(trace, target, verdict)         -> span of its wait for a way or for room, with `end(error)`
#   handle(mark, target, type, ask, sender) -> span of its handler, current from now on, with `leave`, `enter`, `end(error)`
#   lost(trace, target, error)            it ended without a handler
# None of them may raise. `send` and `handle` may answer None: no span.

from cajun_fast._core.ports cimport Tracer

cdef class Tracing(Tracer):
    cdef object variable        # ContextVar whose value is the library's context, an object that never changes; or None
    cdef object seen            # the context that was looked at last
    cdef bint seen_sampled
