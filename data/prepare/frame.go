package prepare

import (
	"fmt"

	"github.com/koala-lm/koala-lm/data/tokenizer"
)

// frame is the tokens that stand at the start and end of each document and between
// two documents; -1 is none.
type frame struct{ bos, eos, separator int64 }

// newFrame returns the frame that the options name. Without an option the tokenizer's
// own separator stands between documents.
func newFrame(t tokenizer.Tokenizer, opts Options) (f frame, err error) {
	f = frame{-1, -1, -1}
	if id, ok := t.Separator(); ok && opts.BOS == "" && opts.EOS == "" {
		f.separator = int64(id)
	}
	for _, named := range []struct {
		flag, token string
		id          *int64
	}{{"bos", opts.BOS, &f.bos}, {"eos", opts.EOS, &f.eos}, {"separator", opts.Separator, &f.separator}} {
		switch named.token {
		case "":
			continue
		case "none":
			*named.id = -1
			continue
		}
		id, ok := t.ID(named.token)
		if !ok {
			return f, fmt.Errorf("--%s: the tokenizer has no token %q", named.flag, named.token)
		}
		*named.id = int64(id)
	}
	return f, nil
}
