package tokenizer

// Limits of the cache of an encoder: pieces longer than cachedPiece seldom
// occur again, and a text of always new pieces must not fill the memory. All of
// them together are about 12 MB.
const (
	cachedPiece  = 64
	cachedPieces = 1 << 17
	cachedBytes  = 2 << 20 // of all pieces
	cachedIDs    = 1 << 19 // of pieces that are not one id
)

// pieceCache caches the ids of pieces: most pieces are words that occurred
// before.
type pieceCache struct {
	encode func(dst []uint32, piece []byte) ([]uint32, error) // the cached function
	pieces *table
	// values holds count<<32 | x for each piece: x is its id if count is 1,
	// else the index of its first id in ids.
	values []uint64
	ids    []uint32
}

func newPieceCache(encode func(dst []uint32, piece []byte) ([]uint32, error)) *pieceCache {
	return &pieceCache{encode: encode, pieces: newTable(1 << 12)}
}

// append appends the ids of the piece text[start:end].
func (c *pieceCache) append(dst []uint32, text []byte, start, end int) ([]uint32, error) {
	piece := text[start:end]
	if len(piece) > cachedPiece {
		return c.encode(dst, piece)
	}
	if at, ok := c.pieces.findIn(text, start, end); ok {
		value := c.values[at]
		if count := value >> 32; count != 1 {
			return append(dst, c.ids[uint32(value):][:count]...), nil
		}
		return append(dst, uint32(value)), nil
	}
	from := len(dst)
	dst, err := c.encode(dst, piece)
	if err != nil {
		return dst, err
	}
	if c.pieces.len() == cachedPieces || len(c.pieces.arena) > cachedBytes || len(c.ids) > cachedIDs {
		c.pieces.clear()
		c.values, c.ids = c.values[:0], c.ids[:0]
	}
	c.pieces.add(piece)
	if count := uint64(len(dst) - from); count == 1 {
		c.values = append(c.values, 1<<32|uint64(dst[from]))
	} else {
		c.values = append(c.values, count<<32|uint64(len(c.ids)))
		c.ids = append(c.ids, dst[from:]...)
	}
	return dst, nil
}
