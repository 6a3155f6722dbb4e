package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"

	"github.com/koala-lm/koala-lm/configs"
	"github.com/koala-lm/koala-lm/internal/suggest"
	"github.com/koala-lm/koala-lm/metric"
)

// ErrBadQuestion marks a wrong filter, order or query. The error's text points at
// the place.
var ErrBadQuestion = errors.New("not understood")

// compileWhere turns a filter such as
//
//	optimizer.kind == 'koala-v' && val_ppl < 120 && 'baseline' in tags
//
// into an SQL condition on a row r of observed_runs. Every operand has a type, and
// only operands of the same type compare. A value that a run lacks equals nothing
// but nil, and is neither less nor greater than any value; NaN equals only NaN.
// User input reaches SQL only as names that were looked up and as parameters.
func compileWhere(ctx context.Context, q queryer, now time.Time, text string) (string, []any, error) {
	tree, err := parser.Parse(text)
	if err != nil {
		return "", nil, fmt.Errorf("filter %w: %s", ErrBadQuestion, explainSyntax(err.Error()))
	}
	c := compiler{ctx: ctx, q: q, now: now, source: tree.Source}
	condition, err := c.condition(tree.Node)
	return condition.text, condition.args, err
}

// parserToken is how the parser writes the token that it did not expect.
var parserToken = regexp.MustCompile(`unexpected token (?:EOF|\w+(?:\("((?:[^"\\]|\\.)*)"\))?)`)

// badNumber and badSuffix are how the parser writes numbers that it cannot read.
var (
	badNumber = regexp.MustCompile(`invalid \w+ literal: strconv\.\w+: parsing "(.*?)": [\w ]*\w`)
	badSuffix = regexp.MustCompile(`bad number syntax: "(.*?)"`)
)

// otherWords maps words of SQL and of other filters to ours.
var otherWords = map[string]string{
	"=": "two values are compared with ==", "<>": "two values differ with !=", "AND": "two conditions are joined by and", "OR": "two conditions are joined by or",
	"NOT": "a condition is inverted by not", "IN": "a list is asked with in", "LIKE": "parts of texts are asked for by contains, startsWith and endsWith",
	"like": "parts of texts are asked for by contains, startsWith and endsWith", "IS": "a missing value is asked for by == nil", "is": "a missing value is asked for by == nil",
}

// explainSyntax writes the parser's error in the words of a filter.
func explainSyntax(message string) string {
	message = badNumber.ReplaceAllString(message, "$1 is no number that can be compared")
	message = badSuffix.ReplaceAllString(message, "$1... is no number: a number of seconds has no unit, and a setting that is a duration is compared with a text, as in train.time_limit > '1h30m'")
	token := parserToken.FindStringSubmatch(message)
	if token == nil {
		return message
	}
	unexpected := "unexpected " + token[1]
	if token[1] == "" {
		unexpected = "the condition ends too early"
	}
	message = strings.Replace(message, token[0], unexpected, 1)
	word := token[1]
	if word == ">" && strings.Contains(message, "<>") {
		word = "<>"
	}
	if hint := otherWords[word]; hint != "" {
		message += "\n(" + hint + ")"
	}
	return message
}

// expression is a piece of SQL with its parameters.
type expression struct {
	text string
	args []any
}

// sqlf replaces each %s of format by an expression, in their order.
func sqlf(format string, parts ...expression) expression {
	var args []any
	texts := make([]any, len(parts))
	for i, part := range parts {
		texts[i] = part.text
		args = append(args, part.args...)
	}
	return expression{fmt.Sprintf(format, texts...), args}
}

func param(value any) expression { return expression{"?", []any{value}} }

// operand is a part of a filter with its type.
type operand struct {
	expression
	kind    valueKind
	node    ast.Node
	label   string // name in errors: val_ppl, the text '5'
	name    Name
	isName  bool
	literal any // the value of a literal
}

type compiler struct {
	ctx    context.Context
	q      queryer
	now    time.Time
	source file.Source
}

// errorAt points at a node.
func (c *compiler) errorAt(node ast.Node, format string, args ...any) error {
	at := &file.Error{Location: node.Location(), Message: fmt.Sprintf(format, args...)}
	return fmt.Errorf("filter %w: %w", ErrBadQuestion, at.Bind(c.source))
}

// condition compiles a part that must be true or false.
func (c *compiler) condition(node ast.Node) (expression, error) {
	o, err := c.operand(node)
	if err != nil {
		return expression{}, err
	}
	if o.kind != boolKind && o.kind != anyKind {
		return expression{}, c.errorAt(node, "%s is %s, not a condition: compare it, as in %s", o.label, o.kind, o.example())
	}
	return o.expression, nil
}

func (c *compiler) operand(node ast.Node) (operand, error) {
	switch n := node.(type) {
	case *ast.NilNode:
		return operand{expression: expression{text: "NULL"}, kind: nilKind, node: n, label: "nil"}, nil
	case *ast.BoolNode:
		return operand{expression: param(n.Value), kind: boolKind, node: n, label: fmt.Sprint(n.Value), literal: n.Value}, nil
	case *ast.IntegerNode:
		return operand{expression: param(n.Value), kind: numberKind, node: n, label: fmt.Sprintf("the number %d", n.Value), literal: float64(n.Value)}, nil
	case *ast.FloatNode:
		return operand{expression: param(n.Value), kind: numberKind, node: n, label: fmt.Sprintf("the number %v", n.Value), literal: n.Value}, nil
	case *ast.StringNode:
		return operand{expression: param(n.Value), kind: textKind, node: n, label: fmt.Sprintf("the text '%s'", n.Value), literal: n.Value}, nil
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.IdentifierNode:
		switch n.Value {
		case "NaN", "nan":
			return operand{expression: expression{text: "NULL"}, kind: numberKind, node: n, label: "NaN", literal: math.NaN()}, nil
		case "inf", "Infinity":
			return operand{expression: param(math.Inf(1)), kind: numberKind, node: n, label: "infinity", literal: math.Inf(1)}, nil
		}
		return c.lookUp(n)
	case *ast.MemberNode, *ast.ChainNode:
		return c.lookUp(n)
	case *ast.CallNode:
		return c.call(n)
	}
	return operand{}, c.errorAt(node, "a filter has no such expression")
}

// lookUp compiles a dotted name. The parser reads optimizer.kind as a member of a
// variable.
func (c *compiler) lookUp(node ast.Node) (operand, error) {
	text, ok := dotted(node)
	if !ok {
		return operand{}, c.errorAt(node, "a filter has no such expression: names are like status, val_ppl or optimizer.lr")
	}
	if text == "tags" {
		return operand{}, c.errorAt(node, "ask for a tag as in 'name' in tags")
	}
	name, err := findName(c.ctx, c.q, text)
	if errors.Is(err, ErrUnknownName) {
		if slices.Contains(Statuses, Status(text)) {
			return operand{}, c.errorAt(node, "write texts in quotes, as in status == '%s'", text)
		}
		switch strings.ToLower(text) {
		case "null", "none", "nil", "na":
			return operand{}, c.errorAt(node, "a missing value is nil, as in val_ppl == nil")
		case "true", "yes", "on":
			return operand{}, c.errorAt(node, "write true, as in model.tied == true")
		case "false", "no", "off":
			return operand{}, c.errorAt(node, "write false, as in model.tied == false")
		}
		return operand{}, c.errorAt(node, "%v", err)
	}
	if err != nil {
		return operand{}, err
	}
	kind, err := name.kind(c.ctx, c.q)
	return operand{expression: name.sql(), kind: kind, node: node, label: text, name: name, isName: true}, err
}

func dotted(node ast.Node) (string, bool) {
	switch n := node.(type) {
	case *ast.ChainNode:
		return dotted(n.Node)
	case *ast.IdentifierNode:
		return n.Value, true
	case *ast.MemberNode:
		property, isString := n.Property.(*ast.StringNode)
		of, isName := dotted(n.Node)
		if isString && isName {
			return of + "." + property.Value, true
		}
	}
	return "", false
}

// example is a comparison that suits the operand's type.
func (o operand) example() string {
	name := metric.ValidPPL
	if o.isName {
		name = o.label
	}
	switch o.kind {
	case statusKind:
		return name + " == 'finished'"
	case textKind:
		if !o.isName {
			name = "optimizer.kind"
		}
		if words := configs.Words(name); len(words) > 0 {
			return name + " == '" + words[0] + "'"
		}
		return name + " == 'text'"
	case timeKind:
		return name + " > '2026-01-31' or " + name + " > ago('36h')"
	case durationKind:
		return name + " > '1h30m'"
	case boolKind:
		return name + " == true"
	}
	return name + " < 120"
}

func boolean(e expression, node ast.Node) operand {
	return operand{expression: e, kind: boolKind, node: node, label: "this"}
}

func (c *compiler) unary(n *ast.UnaryNode) (operand, error) {
	switch n.Operator {
	case "!", "not":
		inner, err := c.condition(n.Node)
		// An unknown condition is not true: not (missing < 3) holds.
		return boolean(sqlf("(NOT coalesce(%s, 0))", inner), n), err
	case "-", "+":
		inner, err := c.number(n.Node)
		if err != nil || n.Operator == "+" {
			return inner, err
		}
		o := operand{expression: sqlf("(-%s)", inner.expression), kind: numberKind, node: n, label: "-" + strings.TrimPrefix(inner.label, "the number ")}
		if value, ok := inner.literal.(float64); ok {
			o.literal = -value
		}
		return o, nil
	}
	return operand{}, c.errorAt(n, "a filter has no operator %s", n.Operator)
}

// number compiles a part that must be a number.
func (c *compiler) number(node ast.Node) (operand, error) {
	o, err := c.operand(node)
	if err != nil {
		return o, err
	}
	switch o.kind {
	case numberKind, anyKind:
		return o, nil
	case mixedKind:
		o.expression, o.kind = o.name.number(), numberKind
		return o, nil
	}
	return o, c.errorAt(node, "%s is %s: only numbers are calculated with", o.label, o.kind)
}

func (c *compiler) binary(n *ast.BinaryNode) (operand, error) {
	switch n.Operator {
	case "in":
		return c.in(n)
	case "contains", "startsWith", "endsWith":
		return c.part(n)
	case "&&", "and", "||", "or":
		left, err := c.condition(n.Left)
		if err != nil {
			return operand{}, err
		}
		right, err := c.condition(n.Right)
		word := "AND"
		if n.Operator == "||" || n.Operator == "or" {
			word = "OR"
		}
		return boolean(sqlf("(%s "+word+" %s)", left, right), n), err
	case "+", "-", "*", "/":
		left, err := c.number(n.Left)
		if err != nil {
			return operand{}, err
		}
		right, err := c.number(n.Right)
		return operand{expression: sqlf("(1.0 * %s "+n.Operator+" %s)", left.expression, right.expression),
			kind: numberKind, node: n, label: "this"}, err
	case "==", "!=", "<", "<=", ">", ">=":
		left, err := c.operand(n.Left)
		if err != nil {
			return operand{}, err
		}
		right, err := c.operand(n.Right)
		if err != nil {
			return operand{}, err
		}
		condition, err := c.compare(n, n.Operator, left, right)
		return boolean(condition, n), err
	}
	return operand{}, c.errorAt(n, "a filter has no operator %s", n.Operator)
}

// compare compiles left OPERATOR right. Equality is IS, for which a missing value
// is unequal to every value.
func (c *compiler) compare(n ast.Node, operator string, left, right operand) (expression, error) {
	if left.kind == nilKind || right.kind == nilKind {
		return c.compareNil(n, operator, left, right)
	}
	if isNaN(left.literal) || isNaN(right.literal) {
		return c.compareNaN(n, operator, left, right)
	}
	var err error
	if left, right, err = c.unify(left, right); err != nil {
		return expression{}, err
	}
	if operator == "==" || operator == "!=" {
		if err := c.checkValue(left, right); err != nil {
			return expression{}, err
		}
	}
	equal := map[string]string{"==": "IS", "!=": "IS NOT"}[operator]
	if equal == "" && (left.kind == boolKind || left.kind == statusKind || left.kind == mixedKind && right.kind != numberKind) {
		return expression{}, c.errorAt(n, "%s is %s: compare it with == or !=", left.label, left.kind)
	}
	if day, ok := right.literal.(string); ok && left.kind == timeKind && equal != "" {
		return sqlf("(substr(%s, 1, "+strconv.Itoa(len(day))+") "+equal+" %s)", left.expression, right.expression), nil
	}
	if equal != "" {
		operator = equal
	}
	return sqlf("(%s "+operator+" %s)", left.expression, right.expression), nil
}

func isNaN(literal any) bool {
	value, ok := literal.(float64)
	return ok && math.IsNaN(value)
}

// compareNil compiles x == nil and x != nil: whether the run lacks x. A metric
// whose value is NaN is not missing.
func (c *compiler) compareNil(n ast.Node, operator string, left, right operand) (expression, error) {
	if operator != "==" && operator != "!=" {
		return expression{}, c.errorAt(n, "compare with nil by == or !=")
	}
	of := left
	if of.kind == nilKind {
		of = right
	}
	value := of.expression
	switch {
	case of.isName && of.name.Kind == MetricName:
		value = Name{StepName, of.name.Key}.sql()
	case of.isName && of.kind == textKind:
		value = sqlf("nullif(%s, '')", of.expression)
	}
	if operator == "==" {
		return sqlf("(%s IS NULL)", value), nil
	}
	return sqlf("(%s IS NOT NULL)", value), nil
}

// compareNaN compiles metric == NaN and metric != NaN.
func (c *compiler) compareNaN(n ast.Node, operator string, left, right operand) (expression, error) {
	of := left
	if isNaN(left.literal) {
		of = right
	}
	if !of.isName || of.name.Kind != MetricName || operator != "==" && operator != "!=" {
		return expression{}, c.errorAt(n, "NaN is compared with a metric by == or !=, as in val_ppl == NaN")
	}
	step := Name{StepName, of.name.Key}.sql()
	if operator == "==" {
		return sqlf("(%s IS NULL AND %s IS NOT NULL)", of.expression, step), nil
	}
	return sqlf("(%s IS NOT NULL OR %s IS NULL)", of.expression, step), nil
}

// unify gives two operands one type, or returns an error that names the type.
func (c *compiler) unify(left, right operand) (operand, operand, error) {
	if left.literal != nil && right.literal == nil { // the literal adapts to the name
		right, left, err := c.unify(right, left)
		return left, right, err
	}
	text, isText := right.literal.(string)
	switch {
	case left.kind == anyKind || right.kind == anyKind:
		return left, right, nil
	case left.kind == statusKind && isText:
		return left, right, nil
	case left.kind == mixedKind && right.kind == numberKind:
		left.expression = left.name.number()
		return left, right, nil
	case left.kind == mixedKind && right.kind == textKind:
		return left, right, nil
	case left.kind == timeKind && isText:
		if !isTime(text) {
			return left, right, c.errorAt(right.node, "%s is a time: compare it with one such as '2026-01-31', '2026-01-31T12:00' (UTC) or ago('36h'), not with %s", left.label, right.label)
		}
		return left, right, nil
	case left.kind == durationKind && (isText || right.kind == durationKind):
		left.expression = sqlf("duration_seconds(%s)", left.expression)
		if !isText {
			right.expression = sqlf("duration_seconds(%s)", right.expression)
			return left, right, nil
		}
		span, err := parseSpan(text)
		if err != nil {
			break
		}
		right.expression = param(span.Seconds())
		return left, right, nil
	case left.kind == right.kind:
		return left, right, nil
	case left.kind == textKind && right.kind == statusKind, left.kind == statusKind && right.kind == textKind:
		return left, right, nil
	}
	hint := ""
	if isText && left.kind == numberKind {
		if span, err := parseSpan(text); err == nil && left.label == "seconds" {
			hint = fmt.Sprintf(": write %s as %v seconds", text, span.Seconds())
		} else if _, err := strconv.ParseFloat(text, 64); err == nil {
			hint = ": write the number without quotes"
		}
	}
	return left, right, c.errorAt(right.node, "%s is %s, as in %s, and cannot be compared with %s%s", left.label, left.kind, left.example(), right.label, hint)
}

// checkValue returns an error if a name can never have the value that a filter asks
// for: an empty answer would hide the misspelling.
func (c *compiler) checkValue(name, value operand) error {
	if !name.isName {
		name, value = value, name
	}
	if !name.isName || value.literal == nil {
		return nil
	}
	text := fmt.Sprint(value.literal)
	if words := name.words(); value.kind == textKind && len(words) > 0 {
		return c.checkWord(value.node, name, words, func(word string) bool { return word == text }, "%s is never '%s'", name.label, text)
	}
	number, isNumber := value.literal.(float64)
	if !isNumber || name.name.Kind != SettingName {
		return nil
	}
	ok, allowed := configs.Takes(name.name.Key, configs.Text(number))
	if ok {
		return nil
	}
	recorded, err := c.recorded(name)
	isRecorded := slices.ContainsFunc(recorded, func(v any) bool {
		whole, isWhole := v.(int64)
		return v == number || isWhole && float64(whole) == number
	})
	if err != nil || isRecorded {
		return err
	}
	return c.errorAt(value.node, "%s is never %s: it is %s", name.label, value.label, allowed)
}

// words lists the values of a name that has no others, and the words of one that
// also has numbers.
func (o operand) words() []string {
	switch {
	case o.kind == statusKind:
		return statusWords()
	case o.isName && o.name.Kind == SettingName:
		return configs.Words(o.name.Key)
	}
	return nil
}

func statusWords() []string {
	words := make([]string, len(Statuses))
	for i, status := range Statuses {
		words[i] = string(status)
	}
	return words
}

// checkWord returns an error unless a word of the name fits, or a value that an
// earlier version recorded.
func (c *compiler) checkWord(at ast.Node, name operand, words []string, fits func(string) bool, format string, args ...any) error {
	if slices.ContainsFunc(words, fits) {
		return nil
	}
	recorded, err := c.recorded(name)
	if err != nil || slices.ContainsFunc(recorded, func(v any) bool { word, ok := v.(string); return ok && fits(word) }) {
		return err
	}
	text, _ := at.(*ast.StringNode)
	near := suggest.Nearest(text.Value, words)
	list := near[0]
	if last := len(near) - 1; last > 0 {
		list = strings.Join(near[:last], ", ") + " or " + near[last]
	}
	if name.kind == mixedKind {
		_, list = configs.Takes(name.name.Key, "")
	}
	return c.errorAt(at, format+": it is %s, as in %s == '%s'", append(args, list, name.label, near[0])...)
}

// recorded lists the values that runs have of a setting.
func (c *compiler) recorded(name operand) (values []any, err error) {
	if name.name.Kind != SettingName {
		return nil, nil
	}
	err = forEach(c.ctx, c.q, func(rows *sql.Rows) error {
		var value any
		err := rows.Scan(&value)
		values = append(values, value)
		return err
	}, `SELECT DISTINCT value FROM run_settings WHERE key = ?`, name.name.Key)
	return values, err
}

// isTime reports whether text is the beginning of a time as the store writes it.
func isTime(text string) bool {
	for _, layout := range []string{"2006", "2006-01", "2006-01-02", "2006-01-02T15", "2006-01-02T15:04", "2006-01-02T15:04:05", "2006-01-02T15:04:05Z", timeLayout} {
		if _, err := time.Parse(layout, text); err == nil {
			return true
		}
	}
	return false
}

// in compiles membership: of a tag in the run's tags, of a value in a list.
func (c *compiler) in(n *ast.BinaryNode) (operand, error) {
	left, err := c.operand(n.Left)
	if err != nil {
		return operand{}, err
	}
	if name, ok := dotted(n.Right); ok && name == "tags" {
		if left.kind != textKind && left.kind != anyKind {
			return operand{}, c.errorAt(n.Left, "a tag is a text in quotes, as in 'baseline' in tags, not %s", left.label)
		}
		return boolean(sqlf("(%s IN (SELECT tag FROM run_tags WHERE run = r.number))", left.expression), n), nil
	}
	list, ok := n.Right.(*ast.ArrayNode)
	if !ok {
		return operand{}, c.errorAt(n.Right, "in needs tags or a list such as ['sgd', 'adam']")
	}
	any := expression{text: "(0"}
	for _, member := range list.Nodes {
		right, err := c.operand(member)
		if err != nil {
			return operand{}, err
		}
		equal, err := c.compare(member, "==", left, right)
		if err != nil {
			return operand{}, err
		}
		any = sqlf("%s OR %s", any, equal)
	}
	any.text += ")"
	return boolean(any, n), nil
}

// part compiles contains, startsWith and endsWith. They distinguish case as == does.
func (c *compiler) part(n *ast.BinaryNode) (operand, error) {
	part, ok := n.Right.(*ast.StringNode)
	if !ok {
		return operand{}, c.errorAt(n.Right, "%s needs a text in quotes", n.Operator)
	}
	left, err := c.operand(n.Left)
	if err != nil {
		return operand{}, err
	}
	if left.kind == numberKind || left.kind == boolKind {
		return operand{}, c.errorAt(n.Left, "%s is %s, as in %s: %s is for texts", left.label, left.kind, left.example(), n.Operator)
	}
	if words := left.words(); len(words) > 0 {
		fits := map[string]func(word, part string) bool{"contains": strings.Contains, "startsWith": strings.HasPrefix, "endsWith": strings.HasSuffix}[n.Operator]
		err := c.checkWord(part, left, words, func(word string) bool { return fits(word, part.Value) }, "%s never %s '%s'", left.label, n.Operator, part.Value)
		if err != nil {
			return operand{}, err
		}
	}
	length := strconv.Itoa(len([]rune(part.Value)))
	switch {
	case n.Operator == "startsWith":
		return boolean(sqlf("(substr(%s, 1, "+length+") IS %s)", left.expression, param(part.Value)), n), nil
	case n.Operator == "endsWith" && part.Value == "":
		return boolean(sqlf("(%s IS NOT NULL)", left.expression), n), nil
	case n.Operator == "endsWith":
		return boolean(sqlf("(substr(%s, -"+length+") IS %s)", left.expression, param(part.Value)), n), nil
	}
	return boolean(sqlf("coalesce(instr(%s, %s) > 0, 0)", left.expression, param(part.Value)), n), nil
}

// call compiles the two functions: ago('36h') is the time that long ago, and
// finite(val_ppl) is true for a value that is neither NaN nor infinite.
func (c *compiler) call(n *ast.CallNode) (operand, error) {
	callee, ok := n.Callee.(*ast.IdentifierNode)
	if !ok || callee.Value != "ago" && callee.Value != "finite" {
		return operand{}, c.errorAt(n, "the only functions are ago, as in started > ago('36h'), and finite, as in finite(val_ppl)")
	}
	if callee.Value == "finite" {
		if len(n.Arguments) != 1 {
			return operand{}, c.errorAt(n, "finite takes one number, as in finite(val_ppl)")
		}
		value, err := c.number(n.Arguments[0])
		return boolean(sqlf("coalesce(abs(%s) < 9e999, 0)", value.expression), n), err
	}
	if len(n.Arguments) == 1 {
		if text, ok := n.Arguments[0].(*ast.StringNode); ok {
			if span, err := parseSpan(text.Value); err == nil {
				return operand{expression: param(formatTime(c.now.Add(-span))), kind: timeKind, node: n, label: "ago('" + text.Value + "')"}, nil
			}
		}
	}
	return operand{}, c.errorAt(n, "ago takes a time such as '90m', '36h' or '7d'")
}

// parseSpan reads a duration, also in days.
func parseSpan(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		return time.Duration(n * 24 * float64(time.Hour)), err
	}
	return time.ParseDuration(text)
}
