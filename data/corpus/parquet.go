package corpus

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
	"github.com/pierrec/lz4/v4"
)

// parquet reads the text of the columns that the template names, page by page.
func (r reading) parquet(from io.ReaderAt, size int64, name string) (err error) {
	// The library panics on some damaged files.
	defer func() {
		switch p := recover().(type) {
		case nil:
		case runtime.Error:
			err = fmt.Errorf("%s is a damaged Parquet file: a length or a place in it is wrong", name)
		default:
			err = fmt.Errorf("%s is a damaged Parquet file: %v", name, p)
		}
	}()
	if err := checkFooter(from, size); err != nil {
		return fmt.Errorf("%s is no Parquet file, or damaged: %w", name, err)
	}
	f, err := parquet.OpenFile(from, size, parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return fmt.Errorf("%s is no Parquet file, or damaged: %w", name, err)
	}
	t := r.opts.template()
	var leaves []*leaf
	defer func() {
		for _, l := range leaves {
			err = cmp.Or(err, l.pages.Close())
		}
	}()
	for _, path := range t.paths() {
		column, err := findColumn(f.Root(), path)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := checkPages(f, from, size, column); err != nil {
			return fmt.Errorf("%s is a damaged Parquet file: %w", name, err)
		}
		leaves = append(leaves, &leaf{pages: column.Pages(), values: make([]parquet.Value, 256)})
	}
	values := make([][]byte, len(leaves))
	const documentCost = 32 // bytes that a document takes beside its text
	total := int64(0)       // a dictionary's texts repeat without taking space
	for row := 1; ; row++ {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		place, ended := fmt.Sprintf("%s: row %d", name, row), 0
		for i, l := range leaves {
			values[i], err = l.next(values[i])
			if err == io.EOF {
				ended++
			} else if err != nil {
				return fmt.Errorf("%s: %w", place, err)
			}
		}
		if ended > 0 {
			return nil
		}
		if text := t.fill(values); text != nil {
			total += int64(len(text)) + documentCost
			if err := checkBomb(name, total, size); err != nil {
				return err
			}
			if err := document(r.sink, place, text); err != nil {
				return err
			}
		}
	}
}

// checkFooter returns an error if the footer's length is impossible: the library takes
// that much memory at once, up to 4 GiB.
func checkFooter(from io.ReaderAt, size int64) error {
	const frame = 8 // the length and the magic word behind the footer
	var tail [frame]byte
	if size < frame {
		return errors.New("it is too short")
	}
	if _, err := from.ReadAt(tail[:], size-frame); err != nil && err != io.EOF {
		return err
	}
	if length := int64(binary.LittleEndian.Uint32(tail[:])); string(tail[4:]) == "PAR1" && length > size-frame {
		return fmt.Errorf("its footer of %d bytes is longer than the file", length)
	}
	return nil
}

// findColumn follows a path to a column of text. The path leaves out the layers that
// Parquet puts around the elements of a list.
func findColumn(column *parquet.Column, path []string) (*parquet.Column, error) {
	at, whole := column, strings.Join(path, ".")
	for rest := path; ; {
		if len(rest) > 0 {
			if next := at.Column(rest[0]); next != nil {
				at, rest = next, rest[1:]
				continue
			}
		}
		inner := at.Columns()
		if at != column && len(inner) == 1 && slices.Contains([]string{"list", "element", "item", "array", "bag"}, inner[0].Name()) {
			at = inner[0]
			continue
		}
		if len(rest) > 0 {
			var names []string
			for _, c := range inner {
				names = append(names, c.Name())
			}
			if len(names) == 0 {
				return nil, fmt.Errorf("the column %q has no parts", at.Name())
			}
			return nil, fmt.Errorf("there is no column %q, only %s: name the column of the text with --field", rest[0], strings.Join(names, ", "))
		}
		break
	}
	if !at.Leaf() {
		var names []string
		for _, c := range at.Columns() {
			names = append(names, whole+"."+c.Name())
		}
		return nil, fmt.Errorf("the column %q is not text: name a part of it, %s", whole, strings.Join(names, " or "))
	}
	if at.Type().Kind() != parquet.ByteArray {
		return nil, fmt.Errorf("the column %q is not text", whole)
	}
	return at, nil
}

// leaf reads a column row by row. The elements of a list become one line each.
type leaf struct {
	pages  parquet.Pages
	page   parquet.Page
	from   parquet.ValueReader
	values []parquet.Value
	rest   []parquet.Value
	ended  bool
}

// more reads the next values if rest is empty.
func (l *leaf) more() error {
	for len(l.rest) == 0 {
		if l.ended {
			return io.EOF
		}
		if l.from == nil {
			page, err := l.pages.ReadPage()
			if err == io.EOF {
				l.ended = true
				return io.EOF
			}
			if err != nil {
				return err
			}
			l.page, l.from = page, page.Values()
		}
		n, err := l.from.ReadValues(l.values)
		l.rest = l.values[:n]
		if err == io.EOF {
			if n > 0 { // the values point into the page
				for i := range l.rest {
					l.rest[i] = l.rest[i].Clone()
				}
			}
			parquet.Release(l.page)
			l.page, l.from = nil, nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// next returns the text of the next row in buffer; nil is a null.
func (l *leaf) next(buffer []byte) ([]byte, error) {
	if err := l.more(); err != nil {
		return nil, err
	}
	text, null := buffer[:0], true
	if text == nil {
		text = []byte{}
	}
	for first := true; ; first = false {
		if err := l.more(); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		v := l.rest[0]
		if !first && v.RepetitionLevel() == 0 {
			break
		}
		l.rest = l.rest[1:]
		if v.IsNull() {
			continue
		}
		if !null {
			text = append(text, '\n')
		}
		text, null = append(text, v.ByteArray()...), false
	}
	if null {
		return nil, nil
	}
	return text, nil
}

// checkPages returns an error if a page of a column has an impossible size, or unpacks
// to another size than its header says: the library takes as much memory as the header
// says, at once, and then as much as the page unpacks to, at a damaged one of LZ4 all
// there is.
func checkPages(f *parquet.File, from io.ReaderAt, size int64, column *parquet.Column) error {
	var packed []byte
	var u pageUnpacker
	for _, group := range f.Metadata().RowGroups {
		for _, chunk := range group.Columns {
			meta := chunk.MetaData
			if !slices.Equal(meta.PathInSchema, column.Path()) {
				continue
			}
			start := meta.DataPageOffset
			if meta.DictionaryPageOffset > 0 && meta.DictionaryPageOffset < start {
				start = meta.DictionaryPageOffset
			}
			if start < 0 || meta.TotalCompressedSize < 0 || start > size || meta.TotalCompressedSize > size-start {
				return errors.New("a column lies outside the file")
			}
			section := io.NewSectionReader(from, start, meta.TotalCompressedSize)
			buffered := bufio.NewReaderSize(section, 512)
			var protocol thrift.CompactProtocol
			for at := int64(0); at < meta.TotalCompressedSize; {
				if _, err := section.Seek(at, io.SeekStart); err != nil {
					return err
				}
				buffered.Reset(section)
				header := new(format.PageHeader)
				counted := &byteCounter{r: buffered}
				if err := thrift.NewDecoder(protocol.NewReader(counted)).Decode(header); err != nil {
					return fmt.Errorf("the header of a page: %w", err)
				}
				at += counted.n
				page, err := sizesOf(header, meta.TotalCompressedSize-at)
				if err != nil {
					return err
				}
				if meta.Codec != format.Uncompressed && page.compressed {
					packed = slices.Grow(packed[:0], page.size)[:page.size]
					if _, err := section.ReadAt(packed, at); err != nil {
						return fmt.Errorf("a page is cut short: %w", err)
					}
					if !u.unpacks(meta.Codec, packed[page.levels:], page.full-page.levels) {
						return errors.New("a page cannot be unpacked")
					}
				}
				at += int64(page.size)
			}
		}
	}
	return nil
}

// pageUnpacker unpacks pages to look at their size.
type pageUnpacker struct {
	plain  []byte
	gzip   gzip.Reader
	brotli brotli.Reader
	zstd   *zstd.Decoder
}

// unpacks reports whether a packed page has exactly size bytes unpacked. It takes no
// more memory than they do.
func (u *pageUnpacker) unpacks(codec format.CompressionCodec, packed []byte, size int) bool {
	if len(packed) == 0 {
		return size == 0
	}
	stream := func(r io.Reader) bool {
		n, err := io.Copy(io.Discard, io.LimitReader(r, int64(size)+1))
		return err == nil && n == int64(size)
	}
	switch codec {
	case format.Snappy: // the library takes what the page says at its start
		n, err := snappy.DecodedLen(packed)
		return err == nil && n == size
	case format.Gzip:
		return u.gzip.Reset(bytes.NewReader(packed)) == nil && stream(&u.gzip)
	case format.Brotli:
		return u.brotli.Reset(bytes.NewReader(packed)) == nil && stream(&u.brotli)
	case format.Zstd:
		if u.zstd == nil {
			u.zstd, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true)) // the options are valid
		}
		plain, err := u.zstd.DecodeAll(packed, u.grown(size)[:0:size])
		return err == nil && len(plain) == size
	case format.Lz4Raw:
		n, err := lz4.UncompressBlock(packed, u.grown(size))
		return size == 0 || err == nil && n == size
	}
	return true // the library knows no other codec
}

func (u *pageUnpacker) grown(size int) []byte {
	u.plain = slices.Grow(u.plain[:0], size)[:size]
	return u.plain
}

// pageSizes are the bytes of a page in the file and unpacked. Its levels come before
// the data and are not compressed.
type pageSizes struct {
	size, full, levels int
	compressed         bool
}

// sizesOf returns an error if the sizes of a page, of which left bytes are in the file
// at most, are impossible.
func sizesOf(header *format.PageHeader, left int64) (pageSizes, error) {
	const (
		largest = 1 << 30
		usual   = 64 << 20
		packing = 1000 // times smaller at most, unless the page is of a usual size
		values  = 16 << 20
	)
	page := pageSizes{size: int(header.CompressedPageSize), full: int(header.UncompressedPageSize), compressed: true}
	if header.DataPageHeaderV2.Valid {
		v2 := &header.DataPageHeaderV2.V
		page.levels = int(v2.RepetitionLevelsByteLength) + int(v2.DefinitionLevelsByteLength)
		page.compressed = !v2.IsCompressed.Valid || v2.IsCompressed.V
	}
	if page.size < 0 || int64(page.size) > left || page.full < 0 || page.full > min(largest, max(usual, packing*page.size)) ||
		page.levels < 0 || page.levels > min(page.size, page.full) {
		return page, errors.New("a page has an impossible size")
	}
	// The values of a column of texts take at least their length in a dictionary, and no
	// byte at all in a page that repeats one of them.
	if n := header.DictionaryPageHeader.V.NumValues; n < 0 || int(n) > page.full/4 {
		return page, errors.New("a dictionary has an impossible number of values")
	}
	for _, n := range []int32{header.DataPageHeader.V.NumValues, header.DataPageHeaderV2.V.NumValues} {
		if n < 0 || n > values {
			return page, errors.New("a page has an impossible number of values")
		}
	}
	return page, nil
}

// byteCounter counts the bytes that were used.
type byteCounter struct {
	r *bufio.Reader
	n int64
}

func (c *byteCounter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *byteCounter) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
	}
	return b, err
}
