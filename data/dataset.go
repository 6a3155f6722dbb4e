package data

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// A Dataset is an open dataset folder. It may be used by many goroutines.
type Dataset struct {
	dir    string
	info   Info
	splits map[string]*Tokens

	tokenizer   func() (tokenizer.Tokenizer, error)
	trainCounts func() ([]int64, error)
}

// An Option changes what Open does.
type Option func(*openOptions)

type openOptions struct{ unverified bool }

// Unverified makes Open check only dataset.json and the sizes of the files, not
// the checksums and ids of the token files.
func Unverified() Option { return func(o *openOptions) { o.unverified = true } }

// Open opens the dataset folder dir and checks all of it: every file has the
// size and the SHA-256 that dataset.json gives, and every id is in the
// vocabulary. That reads about a gigabyte a second.
func Open(dir string, options ...Option) (*Dataset, error) {
	var opts openOptions
	for _, option := range options {
		option(&opts)
	}
	content, err := os.ReadFile(filepath.Join(dir, InfoFile))
	if err != nil {
		return nil, notADataset(dir, err)
	}
	info, err := ParseInfo(content)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, InfoFile), err)
	}
	d := &Dataset{dir: dir, info: info, splits: map[string]*Tokens{}}
	d.tokenizer = sync.OnceValues(d.loadTokenizer)
	d.trainCounts = sync.OnceValues(func() ([]int64, error) { return d.Counts("train") })
	for _, name := range SplitNames {
		split, ok := info.Splits[name]
		if !ok {
			continue
		}
		tokens, err := mapTokens(filepath.Join(dir, split.File), info.width(), split.Tokens)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open dataset: %w", err), d.Close())
		}
		d.splits[name] = tokens
		if split.Starts == "" {
			continue
		}
		if tokens.starts, err = mapStarts(filepath.Join(dir, StartsFile(name)), split.Documents); err != nil {
			return nil, errors.Join(fmt.Errorf("open dataset: %w", err), d.Close())
		}
	}
	if !opts.unverified {
		if err := d.Verify(); err != nil {
			return nil, errors.Join(err, d.Close())
		}
	}
	return d, nil
}

// notADataset returns an error that says why dir is not a dataset and what to
// do.
func notADataset(dir string, err error) error {
	if stat, dirErr := os.Stat(dir); errors.Is(dirErr, fs.ErrNotExist) {
		return fmt.Errorf("no dataset at %s: make one with koala-lm prepare", dir)
	} else if dirErr == nil && !stat.IsDir() {
		return fmt.Errorf("%s is a file, not a dataset folder: make one with koala-lm prepare", dir)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s has no %s: it is not a dataset folder; make one with koala-lm prepare", dir, InfoFile)
	}
	return fmt.Errorf("open dataset: %w", err)
}

// Close unmaps the token files. The dataset's Tokens must not be used
// afterwards.
func (d *Dataset) Close() error {
	var errs []error
	for _, tokens := range d.splits {
		errs = append(errs, tokens.unmap())
	}
	return errors.Join(errs...)
}

// Dir is the folder that was passed to Open.
func (d *Dataset) Dir() string { return d.dir }

// Name is the name of the dataset.
func (d *Dataset) Name() string { return d.info.Name }

// Vocab is the number of ids.
func (d *Dataset) Vocab() int { return d.info.Tokenizer.Vocab }

// Info returns the content of dataset.json.
func (d *Dataset) Info() Info { return d.info }

// Fingerprint identifies the tokenizer and the token files by one SHA-256.
func (d *Dataset) Fingerprint() string { return d.info.Fingerprint() }

// Split returns the tokens of train, valid or test. ok is false if the dataset
// does not have the split.
func (d *Dataset) Split(name string) (*Tokens, bool) {
	tokens, ok := d.splits[name]
	return tokens, ok
}

// Tokenizer returns the dataset's tokenizer. The first call loads
// tokenizer.json.
func (d *Dataset) Tokenizer() (tokenizer.Tokenizer, error) { return d.tokenizer() }

func (d *Dataset) loadTokenizer() (tokenizer.Tokenizer, error) {
	t, err := tokenizer.Load(filepath.Join(d.dir, TokenizerFile))
	if err != nil {
		return nil, err
	}
	if t.Vocab() != d.Vocab() {
		return nil, fmt.Errorf("%s has %d ids, dataset.json says %d", filepath.Join(d.dir, TokenizerFile), t.Vocab(), d.Vocab())
	}
	if d.info.Tokenizer.Special {
		if err := tokenizer.SpecialInText(t); err != nil {
			return nil, fmt.Errorf("%s: special_in_text: %w", filepath.Join(d.dir, InfoFile), err)
		}
	}
	return t, nil
}

// Verify reads every file and compares it with dataset.json.
func (d *Dataset) Verify() error {
	path := filepath.Join(d.dir, TokenizerFile)
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("open dataset: %w", err)
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != d.info.Tokenizer.SHA256 {
		return wrongSum(path)
	}
	for _, name := range SplitNames {
		tokens, ok := d.splits[name]
		if !ok {
			continue
		}
		sum, largest, err := tokens.sum()
		if err != nil {
			return err
		}
		if sum != d.info.Splits[name].SHA256 {
			return wrongSum(tokens.path)
		}
		if largest >= uint32(d.Vocab()) {
			return fmt.Errorf("%s holds the id %d, the vocabulary ends at %d", tokens.path, largest, d.Vocab()-1)
		}
		if tokens.starts != nil {
			if err := tokens.starts.verify(d.info.Splits[name].Starts, tokens.Len()); err != nil {
				return err
			}
		}
	}
	return nil
}

func wrongSum(path string) error {
	return fmt.Errorf("%s does not have the checksum in dataset.json: it was changed after it was made; prepare it again", path)
}

// sum returns the SHA-256 of the file and the largest id in it.
func (t *Tokens) sum() (sum string, largest uint32, err error) {
	h := sha256.New()
	err = t.each(1<<18, func(p []byte) error {
		h.Write(p)
		if t.width == 2 {
			for ; len(p) >= 2; p = p[2:] {
				largest = max(largest, uint32(binary.LittleEndian.Uint16(p)))
			}
			return nil
		}
		for ; len(p) >= 4; p = p[4:] {
			largest = max(largest, binary.LittleEndian.Uint32(p))
		}
		return nil
	})
	if err != nil { // after a fault, h is unusable too
		return "", 0, err
	}
	return hex.EncodeToString(h.Sum(nil)), largest, nil
}

func (info Info) width() int {
	if info.TokenType == "uint16" {
		return 2
	}
	return 4
}
