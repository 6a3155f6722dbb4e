package prepare

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/koala-lm/koala-lm/data"
	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// Run prepares a dataset. If it succeeds the folder Out is complete; if it
// fails Out is unchanged.
func Run(ctx context.Context, opts Options) (info data.Info, err error) {
	if err := opts.Check(); err != nil {
		return info, err
	}
	opts = opts.withDefaults()
	t, err := givenTokenizer(opts)
	if err != nil {
		return info, err
	}
	skipped := int64(0)
	plan, err := find(ctx, opts, func(string) { skipped++ })
	if err != nil {
		return info, err
	}
	if opts.DryRun { // in a temporary folder
		dir, err := os.MkdirTemp("", "koala-lm-*")
		if err != nil {
			return info, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		opts.Out = filepath.Join(dir, filepath.Base(cmp.Or(opts.Out, "dry-run")))
	}
	out, err := newFolder(opts.Out, opts.Force)
	if err != nil {
		return info, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, out.abandon())
		}
	}()
	s, err := newSpool(out.file("text"), opts.ReplaceInvalid)
	if err != nil {
		return info, err
	}
	defer s.close()

	info = data.Info{Format: data.Format, Name: opts.Name, Sample: opts.Sample, MaxTokens: opts.MaxTokens, Splits: map[string]data.SplitInfo{}}
	if info.Name == "" {
		absolute, err := filepath.Abs(opts.Out)
		if err != nil {
			return info, err
		}
		info.Name = filepath.Base(absolute)
	}
	splits, err := gather(ctx, s, plan, opts, &info)
	if err != nil {
		return info, err
	}
	info.Skipped = skipped
	if opts.DryRun {
		opts.Progress.Stage("describe", -1)
		if info.Text, err = describe(s, splits); err != nil {
			return info, err
		}
	}
	if t == nil {
		if len(opts.TokenizerText) > 0 {
			t, err = trainOnText(ctx, out.file("tokenizer-text"), opts)
		} else {
			t, err = trainTokenizer(ctx, s, splits["train"], opts)
		}
		if err != nil {
			return info, err
		}
	}
	if opts.SpecialInText {
		if err := tokenizer.SpecialInText(t); err != nil {
			return info, fmt.Errorf("--special-in-text: %w", err)
		}
	}
	around, err := newFrame(t, opts)
	if err != nil {
		return info, err
	}
	if err := describeTokenizer(&info, t, around, opts, out); err != nil {
		return info, err
	}
	e := splitEncoder{s, t, around, opts.Workers}
	if info.Split.By != "layout" && info.Split.By != "files" {
		opts.Progress.Stage("fit", -1)
		if err := e.fit(ctx, splits, info.Split.By, opts); err != nil {
			return info, err
		}
	}
	j, err := openJournal(out, e.key(info, splits, opts))
	if err != nil {
		return info, err
	}
	for _, name := range data.SplitNames {
		extents := splits[name]
		if len(extents) == 0 {
			continue
		}
		split, err := e.encode(ctx, name, extents, opts.limit(name), out.path, j, opts.Progress)
		if err != nil {
			return info, err
		}
		if split.Tokens == 0 {
			return info, fmt.Errorf("the text of %s gives no token with this tokenizer: is it white space alone?", name)
		}
		info.Splits[name] = split
	}
	if opts.DryRun {
		return info, out.abandon()
	}
	content, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return info, err
	}
	if err := out.write(data.InfoFile, append(content, '\n')); err != nil {
		return info, err
	}
	if err := ctx.Err(); err != nil {
		return info, err
	}
	if err := j.finish(); err != nil {
		return info, err
	}
	return info, out.commit()
}

// describeTokenizer writes tokenizer.json.
func describeTokenizer(info *data.Info, t tokenizer.Tokenizer, around frame, opts Options, out *folder) error {
	var content bytes.Buffer
	if err := t.WriteJSON(&content); err != nil {
		return err
	}
	sum := sha256.Sum256(content.Bytes())
	info.Tokenizer = data.TokenizerInfo{Kind: t.Kind(), Vocab: t.Vocab(), SHA256: hex.EncodeToString(sum[:])}
	info.Tokenizer.Special = opts.SpecialInText
	if kind, ok := tokenizer.FindKind(opts.Tokenizer); ok {
		info.Tokenizer.Lower = opts.Lower
		if info.Tokenizer.MinCount = opts.MinCount; kind.Words {
			info.Tokenizer.MinCount = max(1, opts.MinCount)
		}
	}
	if id, ok := t.Unknown(); ok {
		at := int64(id)
		info.Tokenizer.Unknown = &at
	}
	for _, id := range []struct {
		id int64
		to **int64
	}{{around.separator, &info.Tokenizer.Separator}, {around.bos, &info.Tokenizer.BOS}, {around.eos, &info.Tokenizer.EOS}} {
		if id.id >= 0 {
			*id.to = &id.id
		}
	}
	info.TokenType = data.TokenType(t.Vocab())
	return out.write(data.TokenizerFile, content.Bytes())
}

// limit is the largest number of tokens of a split, 0 if there is none.
func (o Options) limit(split string) int64 {
	switch split {
	case "train":
		return o.MaxTokens
	case "valid":
		return o.Valid.limit()
	case "test":
		return o.Test.limit()
	}
	return 0
}
