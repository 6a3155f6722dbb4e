package corpus

import (
	"go/scanner"
	"go/token"
	"strings"
)

// appendComments appends the paragraphs of all comments in a Go file. Comments
// on consecutive lines of their own are one text.
func appendComments(dst, src []byte) []byte {
	fset := token.NewFileSet()
	f := fset.AddFile("", -1, len(src))
	var s scanner.Scanner
	s.Init(f, src, func(token.Position, string) {}, scanner.ScanComments)
	var group []string
	last := -1
	flush := func() {
		dst = appendParagraphs(dst, group)
		group = group[:0]
	}
	for {
		pos, tok, lit := s.Scan()
		if tok == token.EOF {
			break
		}
		if tok != token.COMMENT {
			if tok != token.SEMICOLON || lit != "\n" {
				last = -1
			}
			continue
		}
		line := f.Line(pos)
		if last < 0 || line != last+1 {
			flush()
		}
		if text, ok := strings.CutPrefix(lit, "//"); ok {
			group = append(group, text)
			last = line
			continue
		}
		group = append(group, strings.Split(strings.TrimSuffix(strings.TrimPrefix(lit, "/*"), "*/"), "\n")...)
		last = line + strings.Count(lit, "\n")
	}
	flush()
	return dst
}

// appendParagraphs joins the lines of each paragraph of a comment to one line.
func appendParagraphs(dst []byte, lines []string) []byte {
	for _, line := range lines {
		if licence(line) {
			return dst
		}
	}
	start := len(dst)
	end := func() {
		if len(dst) > start {
			if !prose(dst[start:]) {
				dst = dst[:start]
			} else {
				dst = append(dst, '\n')
			}
		}
		start = len(dst)
	}
	for _, line := range lines {
		text := strings.TrimSpace(line)
		if text == "" {
			end()
			continue
		}
		if code(line) {
			end()
			continue
		}
		text = strings.TrimLeft(text, "#*- ")
		if text == "" {
			end()
			continue
		}
		if len(dst) > start {
			dst = append(dst, ' ')
		}
		for i, word := range strings.Fields(strings.ToValidUTF8(text, "\uFFFD")) {
			if i > 0 {
				dst = append(dst, ' ')
			}
			dst = append(dst, word...)
		}
	}
	end()
	return dst
}

// licence reports whether a line occurs only in licence headers and generated
// files.
func licence(line string) bool {
	return strings.Contains(line, "Copyright ") || strings.Contains(line, "BSD-style") ||
		strings.Contains(line, "All rights reserved") || strings.Contains(line, "DO NOT EDIT")
}

// code reports whether a line of a comment is not prose: an indented line, as
// gofmt writes code in comments, or a directive such as //go:build.
func code(line string) bool {
	if strings.HasPrefix(line, "\t") || strings.HasPrefix(line, "    ") || strings.HasPrefix(line, " \t") {
		return true
	}
	if strings.HasPrefix(line, "go:") || strings.HasPrefix(line, "line ") || strings.HasPrefix(line, " +build") || strings.HasPrefix(line, "export ") {
		return true
	}
	text := strings.TrimSpace(line)
	return strings.HasSuffix(text, "{") || strings.HasSuffix(text, ";") || strings.HasPrefix(text, "}") || strings.Contains(text, ":=")
}

// prose reports whether most characters of a paragraph are letters. Rulers,
// tables and test expectations are not prose.
func prose(text []byte) bool {
	letters, others := 0, 0
	for _, b := range text {
		switch {
		case 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' || b >= 0x80:
			letters++
		case b != ' ':
			others++
		}
	}
	return letters >= 4*others && letters > 1
}
