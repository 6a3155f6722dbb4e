package tracking

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/expr-lang/expr/ast"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"

	"github.com/koala-lm/koala-lm/internal/suggest"
)

// ErrBadQuestion marks a filter or an order that cannot be meant as it stands.
// The error's text points at the place.
var ErrBadQuestion = errors.New("not understood")

// condition is a filter on its way from the expression language into SQL. What
// the user wrote gets there only as names that were looked up and as parameters.
type condition struct {
	ctx    context.Context
	q      queryer
	now    time.Time
	source file.Source
	args   []any
}

// compileWhere turns an expression such as
//
//	optimizer.kind == 'koala-v' && val_ppl < 120 && 'baseline' in tags
//
// into an SQL condition on a row r of observed_runs. A setting or metric that a
// run lacks is nil: it equals nothing but nil, and is neither less nor more.
func compileWhere(ctx context.Context, q queryer, now time.Time, text string) (string, []any, error) {
	tree, err := parser.Parse(text)
	if err != nil {
		message := err.Error()
		if strings.Contains(message, `Operator("=")`) {
			message += "\n(two things are compared with ==)"
		}
		return "", nil, fmt.Errorf("filter %w: %s", ErrBadQuestion, message)
	}
	c := condition{ctx: ctx, q: q, now: now, source: tree.Source}
	condition, err := c.walk(tree.Node)
	return condition, c.args, err
}

// errorAt points at a node.
func (c *condition) errorAt(node ast.Node, format string, args ...any) error {
	at := &file.Error{Location: node.Location(), Message: fmt.Sprintf(format, args...)}
	return fmt.Errorf("filter %w: %w", ErrBadQuestion, at.Bind(c.source))
}

func (c *condition) value(v any) string {
	c.args = append(c.args, v)
	return "?"
}

func (c *condition) walk(node ast.Node) (string, error) {
	switch n := node.(type) {
	case *ast.NilNode:
		return "NULL", nil
	case *ast.BoolNode:
		return c.value(n.Value), nil
	case *ast.IntegerNode:
		return c.value(n.Value), nil
	case *ast.FloatNode:
		return c.value(n.Value), nil
	case *ast.StringNode:
		return c.value(n.Value), nil
	case *ast.UnaryNode:
		return c.unary(n)
	case *ast.BinaryNode:
		return c.binary(n)
	case *ast.IdentifierNode, *ast.MemberNode, *ast.ChainNode:
		return c.name(n)
	case *ast.CallNode:
		return c.call(n)
	}
	return "", c.errorAt(node, "this is not understood in a filter")
}

// name looks up a dotted name. The parser sees optimizer.kind as a member of a
// variable.
func (c *condition) name(node ast.Node) (string, error) {
	text, ok := dotted(node)
	if !ok {
		return "", c.errorAt(node, "this is not understood in a filter: names are like status, val_ppl or optimizer.lr")
	}
	if text == "tags" {
		return "", c.errorAt(node, "tags are asked for as 'name' in tags")
	}
	name, err := findName(c.ctx, c.q, text)
	if errors.Is(err, ErrUnknownName) {
		return "", c.errorAt(node, "%v", err)
	}
	if err != nil {
		return "", err
	}
	sql, args := name.sql()
	c.args = append(c.args, args...)
	return sql, nil
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

func (c *condition) unary(n *ast.UnaryNode) (string, error) {
	operand, err := c.walk(n.Node)
	if err != nil {
		return "", err
	}
	switch n.Operator {
	case "!", "not":
		// What is unknown is not so: not (missing < 3) holds.
		return "(NOT coalesce(" + operand + ", 0))", nil
	case "-":
		return "(-" + operand + ")", nil
	case "+":
		return operand, nil
	}
	return "", c.errorAt(n, "operator %s is not understood in a filter", n.Operator)
}

// infix are the operators that SQL writes alike. Equality is IS, under which
// NULL equals NULL, and a run without the setting is not equal to any value.
var infix = map[string]string{
	"==": "IS", "!=": "IS NOT", "<": "<", "<=": "<=", ">": ">", ">=": ">=",
	"&&": "AND", "and": "AND", "||": "OR", "or": "OR", "+": "+", "-": "-", "*": "*", "/": "/",
}

func (c *condition) binary(n *ast.BinaryNode) (string, error) {
	switch n.Operator {
	case "in":
		return c.in(n)
	case "contains", "startsWith", "endsWith":
		return c.text(n)
	}
	operator, ok := infix[n.Operator]
	if !ok {
		return "", c.errorAt(n, "operator %s is not understood in a filter", n.Operator)
	}
	left, err := c.walk(n.Left)
	if err != nil {
		return "", err
	}
	right, err := c.walk(n.Right)
	if err != nil {
		return "", err
	}
	if n.Operator == "/" {
		left = "1.0 * " + left
	}
	return "(" + left + " " + operator + " " + right + ")", nil
}

// in is membership: of a tag among the run's, of a value in a list.
func (c *condition) in(n *ast.BinaryNode) (string, error) {
	left, err := c.walk(n.Left)
	if err != nil {
		return "", err
	}
	if name, ok := dotted(n.Right); ok && name == "tags" {
		return "(" + left + " IN (SELECT tag FROM run_tags WHERE run = r.number))", nil
	}
	list, ok := n.Right.(*ast.ArrayNode)
	if !ok {
		return "", c.errorAt(n.Right, "in is followed by tags or by a list such as ['sgd', 'adam']")
	}
	members := make([]string, len(list.Nodes))
	for i, member := range list.Nodes {
		if members[i], err = c.walk(member); err != nil {
			return "", err
		}
	}
	return "coalesce(" + left + " IN (" + strings.Join(members, ", ") + "), 0)", nil
}

// text compares parts of texts, distinguishing case as == does.
func (c *condition) text(n *ast.BinaryNode) (string, error) {
	part, ok := n.Right.(*ast.StringNode)
	if !ok {
		return "", c.errorAt(n.Right, "%s is followed by a text in quotes", n.Operator)
	}
	left, err := c.walk(n.Left)
	if err != nil {
		return "", err
	}
	length := strconv.Itoa(len([]rune(part.Value)))
	switch n.Operator {
	case "startsWith":
		return "(substr(" + left + ", 1, " + length + ") IS " + c.value(part.Value) + ")", nil
	case "endsWith":
		if part.Value == "" {
			return "(" + left + " IS NOT NULL)", nil
		}
		return "(substr(" + left + ", -" + length + ") IS " + c.value(part.Value) + ")", nil
	}
	return "coalesce(instr(" + left + ", " + c.value(part.Value) + ") > 0, 0)", nil
}

// call knows one function: ago("36h") is the time that long ago.
func (c *condition) call(n *ast.CallNode) (string, error) {
	callee, ok := n.Callee.(*ast.IdentifierNode)
	if !ok || callee.Value != "ago" {
		return "", c.errorAt(n, "the only function is ago, as in started > ago('36h')")
	}
	if len(n.Arguments) == 1 {
		if text, ok := n.Arguments[0].(*ast.StringNode); ok {
			if span, err := parseSpan(text.Value); err == nil {
				return c.value(formatTime(c.now.Add(-span))), nil
			}
		}
	}
	return "", c.errorAt(n, "ago takes a time such as '90m', '36h' or '7d'")
}

// parseSpan reads a duration, in days too.
func parseSpan(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseFloat(days, 64)
		return time.Duration(n * 24 * float64(time.Hour)), err
	}
	return time.ParseDuration(text)
}

// NameKind says what a name in a question stands for.
type NameKind int

const (
	FieldName   NameKind = iota // a column of runs
	SettingName                 // a setting's value
	MetricName                  // a metric's last value
	BestName                    // a metric's best value
)

// Name is a thing that runs can be filtered, sorted and grouped by.
type Name struct {
	Kind NameKind
	Key  string // of the field, the setting or the metric
}

// ErrUnknownName is returned for a name that no run knows.
var ErrUnknownName = errors.New("unknown name")

// fields are the names of what every run has, with the column it is read from.
var fields = map[string]string{
	"id": "id", "name": "name", "note": "note", "status": "status", "reason": "reason",
	"started": "started", "ended": "ended", "seconds": "seconds", "steps": "steps", "tokens": "tokens",
	"host": "host", "cpu": "cpu", "device": "device", "threads": "threads",
	"dataset": "dataset", "dataset_path": "dataset_path", "dataset_fingerprint": "dataset_fingerprint",
	"parent": "parent", "git_commit": "git_commit", "git_dirty": "git_dirty",
}

// Name finds out what text stands for: a field of every run (status), a setting
// (optimizer.lr), the last value of a metric (val_ppl), or with "best." before
// it the best. The prefixes "settings." and "metrics." settle doubts.
func (s *Store) Name(ctx context.Context, text string) (Name, error) {
	name, err := findName(ctx, s.read, text)
	if err != nil {
		return Name{}, explain(err)
	}
	return name, nil
}

func findName(ctx context.Context, q queryer, text string) (Name, error) {
	if _, ok := fields[text]; ok {
		return Name{FieldName, text}, nil
	}
	if key, ok := strings.CutPrefix(text, "best."); ok {
		return checkName(ctx, q, Name{BestName, key})
	}
	if key, ok := strings.CutPrefix(text, "metrics."); ok {
		return checkName(ctx, q, Name{MetricName, key})
	}
	if key, ok := strings.CutPrefix(text, "settings."); ok {
		return checkName(ctx, q, Name{SettingName, key})
	}
	name, err := checkName(ctx, q, Name{MetricName, text})
	if errors.Is(err, ErrUnknownName) {
		name, err = checkName(ctx, q, Name{SettingName, text})
	}
	return name, err
}

// checkName wants one run at least to know the name. In a store without runs
// every name will do.
func checkName(ctx context.Context, q queryer, name Name) (Name, error) {
	statement := `SELECT EXISTS (SELECT 1 FROM metric_names WHERE name = ?), NOT EXISTS (SELECT 1 FROM runs)`
	if name.Kind == SettingName {
		statement = `SELECT EXISTS (SELECT 1 FROM run_settings WHERE key = ?), NOT EXISTS (SELECT 1 FROM runs)`
	}
	var known, empty bool
	if err := q.QueryRowContext(ctx, statement, name.Key).Scan(&known, &empty); err != nil {
		return Name{}, err
	}
	if known || empty {
		return name, nil
	}
	all, err := allNames(ctx, q)
	if err != nil {
		return Name{}, err
	}
	if near := suggest.Name(name.Key, all); near != "" {
		return Name{}, fmt.Errorf("%w %q: did you mean %s?", ErrUnknownName, name.Key, near)
	}
	return Name{}, fmt.Errorf("%w %q: it is no field, and no run has such a setting or metric", ErrUnknownName, name.Key)
}

// allNames are the names there are, for a suggestion.
func allNames(ctx context.Context, q queryer) ([]string, error) {
	names := slices.Sorted(maps.Keys(fields))
	err := forEach(ctx, q, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	}, `
		SELECT name FROM metric_names
		UNION
		SELECT key FROM run_settings WHERE run IN (SELECT number FROM runs ORDER BY number DESC LIMIT 100)`)
	return names, err
}

// sql is the SQL expression of the name's value in the row r of observed_runs.
func (n Name) sql() (text string, args []any) {
	switch n.Kind {
	case SettingName:
		return "(SELECT value FROM run_settings WHERE run = r.number AND key = ?)", []any{n.Key}
	case MetricName:
		return "(SELECT value FROM run_summaries WHERE run = r.number AND metric = (SELECT metric FROM metric_names WHERE name = ?))", []any{n.Key}
	case BestName:
		return "(SELECT best FROM run_summaries WHERE run = r.number AND metric = (SELECT metric FROM metric_names WHERE name = ?))", []any{n.Key}
	}
	return "r." + fields[n.Key], nil
}

// shown is like sql, with booleans as people write them: SQL has none.
func (n Name) shown() (text string, args []any) {
	if n.Kind == SettingName {
		return "(SELECT CASE type WHEN 'boolean' THEN iif(value, 'true', 'false') ELSE value END" +
			" FROM run_settings WHERE run = r.number AND key = ?)", []any{n.Key}
	}
	return n.sql()
}
