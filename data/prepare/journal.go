package prepare

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/internal/atomicfile"
)

// A journal remembers how far the splits are encoded, so that a preparation that was
// killed continues there: what it names is on disk. The text is read again, and a
// tokenizer is trained again; the journal counts only if both are the same.
type journal struct {
	path  string
	state journalState
}

type journalState struct {
	Key    string // of all that the token files follow from
	Splits map[string]splitProgress
}

// splitProgress is what is on disk of a split.
type splitProgress struct {
	counted
	Tokens, Starts fileProgress
}

// fileProgress is the length of a file and the state of its SHA-256.
type fileProgress struct {
	Size int64
	Sum  []byte
}

const journalFile = "journal.json"

// saveEvery is the number of pieces between two entries of a journal. A split with fewer
// has none: it is soon encoded again.
var saveEvery = 64

// openJournal reads the journal in the folder. One that is missing, damaged or of
// other text starts empty, and the files that it names are removed.
func openJournal(out *folder, key string) (*journal, error) {
	j := &journal{path: out.file(journalFile)}
	content, err := os.ReadFile(j.path)
	if err == nil && json.Unmarshal(content, &j.state) == nil && j.state.Key == key && j.state.Splits != nil && j.onDisk(out) {
		return j, nil
	}
	j.state = journalState{Key: key, Splits: map[string]splitProgress{}}
	return j, out.clear(survives)
}

// onDisk reports whether the files are as long as the journal says.
func (j *journal) onDisk(out *folder) bool {
	for split, p := range j.state.Splits {
		for name, size := range map[string]int64{split + ".bin": p.Tokens.Size, data.StartsFile(split): p.Starts.Size} {
			if info, err := os.Stat(out.file(name)); err != nil || info.Size() < size {
				return false
			}
		}
	}
	return true
}

// note enters the progress of a split, whose files are on disk.
func (j *journal) note(split string, p splitProgress) error {
	j.state.Splits[split] = p
	return atomicfile.Write(j.path, func(w io.Writer) error { return json.NewEncoder(w).Encode(j.state) })
}

// finish removes the journal of a dataset that is whole.
func (j *journal) finish() error {
	if err := os.Remove(j.path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// survives reports whether a file of a killed preparation is kept until it is known
// whether the journal counts.
func survives(name string) bool {
	return name == journalFile || slices.ContainsFunc(data.SplitNames[:], func(split string) bool {
		return name == split+".bin" || name == data.StartsFile(split)
	})
}

// key is a digest of all that the token files follow from: the program, the text and
// its division, the tokenizer and the tokens around documents.
func (se splitEncoder) key(info data.Info, splits map[string][]extent, opts Options) string {
	h := sha256.New()
	if build, ok := debug.ReadBuildInfo(); ok {
		fmt.Fprintln(h, build)
	}
	for _, source := range info.Sources {
		fmt.Fprintln(h, source.SHA256)
	}
	// The checksum tells apart texts that are taken in other ways from the same sources.
	fmt.Fprintf(h, "%x %s %v %v\n", se.spool.sum, info.Tokenizer.SHA256, opts.SpecialInText, se.frame)
	for _, name := range data.SplitNames {
		fmt.Fprintln(h, name, opts.limit(name), splits[name])
	}
	return hex.EncodeToString(h.Sum(nil))
}
