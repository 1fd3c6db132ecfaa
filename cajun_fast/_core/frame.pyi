__test__: dict[str, str]

MAGIC_BYTE: int
FRAME_VERSION: int
HEADER_SIZE: int
TYPES: dict[str, int]

def encode_frame(type: int, body: bytes = b"", sequence: int = 0) -> bytes: ...
def decode_header(data: bytes) -> tuple[int, int, int, int]: ...
