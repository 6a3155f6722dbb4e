package tokenizer

import (
	"encoding/json"
	"strings"
)

// decoder turns tokens back into text, one at a time.
type decoder struct {
	bytes    bool     // tokens are spelled in the byte-level alphabet
	fallback bool     // <0x0A> is the byte 10
	replace  []string // pairs of a string in tokens and its replacement in text
	prefix   string   // prefix of tokens inside a word (WordPiece)
	suffix   string   // suffix of tokens that end a word (BPEDecoder)
	spaced   bool     // a token that starts a word is preceded by a space
	trim     bool     // drop a space at the start of the text
}

// newDecoder reads the decoder of a tokenizer.json. Without one, it inverts the
// pre-tokenizers.
func newDecoder(raw rawFile, t *Pipeline) (decoder, error) {
	var d decoder
	if isNull(raw.Decoder) {
		switch {
		case d.decodeLike(raw.PreTokenizer):
		case t.kind == "wordpiece":
			d.prefix, d.spaced = "##", true
		case t.kind == "wordlevel":
			d.spaced = true
		default:
			d.replace = []string{"▁", " "}
		}
		return d, nil
	}
	return d, d.add(raw.Decoder)
}

// decodeLike makes the inverse of ByteLevel and Metaspace.
func (d *decoder) decodeLike(part json.RawMessage) bool {
	text := string(part)
	switch {
	case strings.Contains(text, `"ByteLevel"`):
		d.bytes = true
	case strings.Contains(text, `"Metaspace"`):
		d.replace, d.trim = []string{"▁", " "}, true
	default:
		return false
	}
	return true
}

func (d *decoder) add(part json.RawMessage) error {
	var read struct {
		Type          string            `json:"type"`
		Decoders      []json.RawMessage `json:"decoders"`
		Prefix        string            `json:"prefix"`
		Suffix        string            `json:"suffix"`
		Replacement   string            `json:"replacement"`
		PrependScheme string            `json:"prepend_scheme"`
		AddPrefix     *bool             `json:"add_prefix_space"`
		Pattern       pattern           `json:"pattern"`
		Content       json.RawMessage   `json:"content"`
		Start         int               `json:"start"`
	}
	if err := readPart("decoder", part, &read); err != nil {
		return err
	}
	var content string
	_ = json.Unmarshal(read.Content, &content)
	switch read.Type {
	case "Sequence":
		for _, part := range read.Decoders {
			if err := d.add(part); err != nil {
				return err
			}
		}
	case "ByteLevel":
		d.bytes = true
	case "ByteFallback":
		d.fallback = true
	case "WordPiece":
		d.prefix, d.spaced = read.Prefix, true
	case "BPEDecoder":
		d.suffix = read.Suffix
		if d.suffix == "" {
			d.suffix = "</w>"
		}
	case "Metaspace":
		d.replace = append(d.replace, read.Replacement, " ")
		d.trim = read.PrependScheme != "never" && (read.AddPrefix == nil || *read.AddPrefix)
	case "Replace":
		if read.Pattern.String != nil && *read.Pattern.String != "" {
			d.replace = append(d.replace, *read.Pattern.String, content)
		}
	case "Strip":
		d.trim = d.trim || read.Start > 0
	}
	return nil // Fuse, CTC and others do nothing to single tokens
}

// AppendText appends the text of one token.
func (t *Pipeline) AppendText(dst []byte, prev int64, id uint32) []byte {
	d, token := &t.decoder, t.Token(id)
	if t.literal[id] && !d.spaced {
		return append(dst, token...)
	}
	if d.bytes {
		if text, ok := unspell(token); ok {
			return append(dst, text...)
		}
		return append(dst, token...)
	}
	if d.fallback {
		if b, ok := byteToken(token); ok {
			return append(dst, b)
		}
	}
	if d.spaced {
		if rest, ok := strings.CutPrefix(token, d.prefix); ok && d.prefix != "" && prev >= 0 {
			return append(dst, rest...)
		}
		if prev >= 0 {
			dst = append(dst, ' ')
		}
		return append(dst, token...)
	}
	for i := 0; i < len(d.replace); i += 2 {
		token = strings.ReplaceAll(token, d.replace[i], d.replace[i+1])
	}
	if d.trim && prev < 0 {
		token = strings.TrimPrefix(token, " ")
	}
	if d.suffix != "" {
		token = strings.ReplaceAll(token, d.suffix, " ")
	}
	return append(dst, token...)
}

// byteToken reads the name of a byte in a vocabulary: <0x0A>.
func byteToken(token string) (byte, bool) {
	if len(token) != 6 || !strings.HasPrefix(token, "<0x") || token[5] != '>' {
		return 0, false
	}
	high, low := strings.IndexByte("0123456789ABCDEF", token[3]), strings.IndexByte("0123456789ABCDEF", token[4])
	return byte(high<<4 | low), high >= 0 && low >= 0
}
