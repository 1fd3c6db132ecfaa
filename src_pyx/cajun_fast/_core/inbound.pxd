# What comes in by a link: records in DATA frames, one verdict each. Part of a link, apart from it because it shares
# nothing with the outgoing half but the wire.
#
# Laws
#   * the watermark rises by one for each numbered record; a number at or below it is a duplicate and is passed over
#   * answers go whatever else is full, so an ask is taken only while those before it do not pile up
#   * after a refusal that may heal (not here, moving, full) the target stays refused until the peer has confirmed
#     it, which it does when every message that it had sent to that target has its verdict: what was sent behind a
#     refused message must not overtake it

from libc.stdint cimport int64_t, uint32_t, uint64_t
from cajun_fast._core.bulk cimport BulkIn, Incoming
from cajun_fast._core.codec cimport Codec, Serializer
from cajun_fast._core.frame cimport Record
from cajun_fast._core.instruments cimport Mark
from cajun_fast._core.lane cimport Exchange, Pid
from cajun_fast._core.ports cimport Inbox, Replies
from cajun_fast._core.window cimport ReceiveWindow

cdef enum Right:                        # of the peer to send to a name
    EVERYTHING = 0
    SOME = 1                            # ports.may_say is asked about each message
    NOTHING = 2
    UNASKED = 3                         # ports.right_to has not been asked yet

cdef class InName:                      # what a number means that the peer uses
    cdef str id
    cdef Inbox inbox                    # as last found; a closed one is looked up again
    cdef Pid pid                        # as a sender
    cdef int refusing                   # the verdict that stands, 0 for none
    cdef Py_ssize_t size                # bytes of the id
    cdef int right                      # EVERYTHING where nothing is restricted: costs a message nothing

cdef class Inbound:
    cdef Exchange exchange
    cdef Serializer serializer
    cdef Codec plain                    # for errors
    cdef Replies replies                # where answers to this peer's asks go
    cdef object link                    # told of room (signal_room); borrowed ports
    cdef object ports                   # LinkPorts: replies_for(node), decode_error(plain), right_to(id), may_say(id, message),
                                        # broken(id, message, error, message_id)
    cdef readonly ReceiveWindow seen
    cdef readonly BulkIn transfers
    cdef public uint64_t stream         # the peer's, 0 before its first START
    cdef list names                     # number -> InName
    cdef readonly Py_ssize_t names_size # bytes of their ids
    cdef dict refusing                  # id -> InName: survives connections
    cdef uint64_t frame_seq             # number of the record before, in the frame that is being read
    cdef bint ack_due                   # soon, whether or not anything else goes out
    cdef int late                       # answers that are not acknowledged and need not be at once
    cdef bint answers_full              # set by the outgoing half: so many stand here that asks are refused as FULL
    cdef bint restricted                # ports.restricted: a name is asked about when it is first sent to
    cdef bint ended
    cdef public uint64_t messages, duplicates, refused

    cdef int on_record(self, const unsigned char *at, Py_ssize_t size) except -1
    cdef int on_message(self, Record *record) except -1
    cdef int deliver(self, Record *record, InName name, object message) except -1
    cdef Mark mark(self, Record *record)
    cdef Mark traced_mark(self, Record *record)
    cdef int note_arrival(self, Mark mark, Record *record) except -1
    cdef int dropped(self, Record *record, InName name, object message) except -1
    cdef str number(self)
    cdef int deliver_safely(self, Record *record, InName name, object message) except -1
    cdef int refuse_unread(self, Record *record, InName name, int verdict) except -1
    cdef int on_answer(self, Record *record) except -1
    cdef int on_late_news(self, bint large) except -1
    cdef object decode(self, Serializer serializer, Record *record)
    cdef Incoming claim(self, Record *record)
    cdef object open_mail(self, Record *record)     # of a numbered message
    cdef int on_name(self, Record *record) except -1
    cdef int refuse(self, InName name, uint64_t seq, int verdict) except -1
    cdef int confirm(self, uint64_t seq) except -1
    cdef InName name(self, uint32_t number)
    cdef int restart(self) except -1
