package corpus

import (
	"archive/tar"
	"archive/zip"
	"cmp"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"

	"github.com/koala-lm/koala-lm/internal/visible"
)

// zip reads the files of known formats in a zip archive, in the order of the
// archive.
func (r reading) zip(from io.ReaderAt, size int64, name string) error {
	archive, err := zip.NewReader(from, size)
	if err != nil {
		return damaged(name, err)
	}
	for _, entry := range archive.File {
		if strings.Contains(entry.Name, `\`) { // an old tool on Windows: unzip takes it as / too
			if len(entry.Name) > 1 && entry.Name[1] == ':' { // a drive
				return unsafeName(name, entry.Name)
			}
			entry.Name = strings.ReplaceAll(entry.Name, `\`, "/")
		}
		if err := checkEntry(name, entry.Name); err != nil {
			return err
		}
	}
	members, unpacked := 0, int64(0)
	for _, entry := range archive.File {
		if !entry.Mode().IsRegular() || !wanted(entry.Name) {
			continue
		}
		members++
		content, err := entry.Open()
		if err != nil {
			return damaged(entryName(name, entry.Name), err)
		}
		guarded := &member{
			unpacker: unpacker{name: name + ": " + entry.Name, from: content, packed: func() int64 { return int64(entry.CompressedSize64) }},
			// Entries may overlap in the archive, so their total size is
			// bounded too.
			archive: name, total: &unpacked, size: size,
		}
		err = r.member(guarded, entry.Name, entryName(name, entry.Name))
		if err := cmp.Or(err, content.Close()); err != nil {
			return err
		}
	}
	return checkMembers(name, members)
}

// tar reads the files of known formats in a tar stream.
func (r reading) tar(from io.Reader, name string) error {
	archive := tar.NewReader(from)
	members := 0
	for {
		entry, err := archive.Next()
		if err == io.EOF {
			return checkMembers(name, members)
		}
		if err != nil {
			return damaged(name, err)
		}
		if err := checkEntry(name, entry.Name); err != nil {
			return err
		}
		if entry.Typeflag != tar.TypeReg && entry.Typeflag != tar.TypeGNUSparse || !wanted(entry.Name) {
			continue
		}
		if sparse(entry) {
			return fmt.Errorf("%s: %q is a sparse file, whose holes would be read as zeros: unpack the archive first", name, entry.Name)
		}
		members++
		held := tarMember{archive, entryName(name, entry.Name)}
		if err := r.member(held, entry.Name, held.name); err != nil {
			return err
		}
	}
}

// tarMember is a file in a tar archive, which may end within it.
type tarMember struct {
	from io.Reader
	name string
}

func (m tarMember) Read(p []byte) (int, error) {
	n, err := m.from.Read(p)
	if err == io.ErrUnexpectedEOF {
		err = damaged(m.name, err)
	}
	return n, err
}

// sparse reports whether an entry is a file with holes: a few bytes of an
// archive may unpack to terabytes.
func sparse(entry *tar.Header) bool {
	for key := range entry.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return entry.Typeflag == tar.TypeGNUSparse
}

// member reads one file of an archive.
func (r reading) member(from io.Reader, entry, name string) error {
	held, packing := formatOf(entry)
	if packing == "" {
		return r.unpacked(from, held, name)
	}
	counted := &counter{r: from}
	u, err := unpack(counted, packing, name, func() int64 { return counted.n })
	if err != nil {
		return err
	}
	return cmp.Or(r.unpacked(u, held, name), u.Close())
}

// wanted reports whether a file in an archive is read. Hidden files, unknown
// formats and nested archives are not.
func wanted(entry string) bool {
	held, _ := formatOf(entry)
	return held != "" && held != kindZip && held != kindTar &&
		!strings.HasPrefix(path.Base(entry), ".") && !strings.HasPrefix(entry, "__MACOSX/")
}

// entryName returns a file's name in an archive for messages. It escapes
// control characters, which a terminal would obey.
func entryName(archive, entry string) string {
	return archive + ": " + visible.Quoted(entry)
}

// checkEntry refuses names that lead out of a folder, although nothing is
// unpacked to disk: an archive with such a name is not what it seems.
func checkEntry(archive, entry string) error {
	if name := strings.TrimSuffix(entry, "/"); !filepath.IsLocal(name) && name != "." || strings.ContainsAny(entry, "\\\x00") {
		return unsafeName(archive, entry)
	}
	return nil
}

func unsafeName(archive, entry string) error {
	return fmt.Errorf("%s is refused: it holds a file with the unsafe name %q", archive, entry)
}

func checkMembers(name string, members int) error {
	if members == 0 {
		return fmt.Errorf("%s has no text in it: looked for %s", name, readable)
	}
	return nil
}

// member is a file in a zip archive.
type member struct {
	unpacker
	archive string
	total   *int64 // bytes unpacked so far from the whole archive
	size    int64  // size of the archive
}

func (m *member) Read(p []byte) (int, error) {
	n, err := m.unpacker.Read(p)
	*m.total += int64(n)
	if bombErr := checkBomb(m.archive, *m.total, m.size); bombErr != nil {
		return n, bombErr
	}
	return n, err
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
