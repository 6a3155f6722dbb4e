package page

import (
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// Tests the computing functions of script.js without a page, if Node.js is
// installed.
func TestScriptComputes(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("Node.js is not installed")
	}
	var program strings.Builder
	program.WriteString("\"use strict\";\nconst data = { common: { a: 1 } };\nconst assert = require('node:assert/strict');\n")
	for _, name := range []string{"formatNumber", "formatSeconds", "compareValues", "ticksBetween", "formatTick", "smoothed", "valueAt", "scaleOf", "nearestPoint", "draw", "tellsApart"} {
		found := regexp.MustCompile(fmt.Sprintf(`(?ms)^function %s\(.*?^\}$`, name)).FindString(script)
		if found == "" {
			t.Fatalf("script.js has no function %s", name)
		}
		program.WriteString(found + "\n")
	}
	for _, name := range []string{"numberOf", "formatTime", "settingOf", "textOrder", "drawn", "formatValue"} {
		found := regexp.MustCompile(fmt.Sprintf(`(?m)^const %s = .*$`, name)).FindString(script)
		if found == "" {
			t.Fatalf("script.js has no function %s", name)
		}
		program.WriteString(found + "\n")
	}
	program.WriteString(`
const near = (a, b) => assert(Math.abs(a - b) < 1e-9, a + " is not " + b);
for (const [v, want] of [[0, "0"], [8.1234, "8.123"], [12345.6, "12,346"], [1e-5, "1.00e-5"], ["NaN", "NaN"], ["Infinity", "inf"], ["-Infinity", "-inf"], [null, ""], [7, "7"]])
  assert.equal(formatNumber(v), want);
for (const [v, want] of [[0.5, "500ms"], [59.94, "59.9s"], [61, "1m01s"], [3725, "1h02m"], [null, ""]]) assert.equal(formatSeconds(v), want);
for (const [v, step, want] of [[0, 1, "0"], [2500000, 500000, "2.5M"], [6e29, 1e29, "6e+29"], [0.00001, 0.00001, "1e-5"], [1.5e-8, 5e-9, "1.5e-8"], [12000, 2000, "12k"],
  [1e12, 1e11, "1000G"], [1e12 + 10, 10, "1000.00000001G"], [123456789, 1, "123.456789M"], [0.30000000000000004, 0.1, "0.3"], [-2.7e-17, 0.1, "0"], [-100, 20, "-100"]])
  assert.equal(formatTick(v, step), want);
for (const [v, step, want] of [[120, 20, "2m00s"], [120.5, 0.5, "120.5s"], [3725, 5, "3725s"], [7200, 600, "2h00m"], [0.5, 0.1, "500ms"], [0.0002, 0.0001, "0.0002s"]]) assert.equal(formatTime(v, step), want);
for (const [low, high] of [[1e-8, 3e-8], [1e12, 1e12 + 1e4], [-5, 5], [4.5, 5.5], [0, 1e-300], [-1e200, 1e200]]) {
  const labels = ticksBetween(low, high, 5, false).map(([v, step]) => formatTick(v, step));
  assert(labels.length > 2 && new Set(labels).size === labels.length, low + " to " + high + ": " + labels);
}
assert.deepEqual([3, "NaN", 1, null, 2].sort(compareValues), [1, 2, 3, "NaN", null]);
assert.deepEqual(["run 10", "run 9"].sort(compareValues), ["run 9", "run 10"]);
assert.deepEqual(smoothed([4, 4, 4], 0.9).map((v) => Math.round(v * 1e9) / 1e9), [4, 4, 4]); // no bias to the start
near(smoothed([0, 1], 0.5)[1], 2 / 3);
assert.deepEqual(smoothed([1, NaN, null], 0), [1, NaN, null]);
assert.deepEqual(ticksBetween(0, 10, 5, false).map(([v]) => v), [0, 2, 4, 6, 8, 10]);
assert.deepEqual(ticksBetween(1, 1000, 5, true).map(([v]) => v), [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]);
for (const [low, high, count] of [[0.002, 6, 5], [0.002, 6, 4], [1, 30, 4], [1e-9, 1e3, 5], [2, 11, 4], [1, 1e6, 4]]) { // apart
  const at = ticksBetween(low, high, count, true).map(([v]) => Math.log(v / low) / Math.log(high / low));
  assert(at.length >= 2 && at.every((v, i) => i === 0 || v - at[i - 1] >= 0.999 / (2 * count)), low + " to " + high + ": " + at);
}
data.runs = [{ a: 1, b: 2, c: [1] }, { b: 2, c: [1] }, { a: 3 }].map((settings) => ({ settings }));
assert.deepEqual(["a", "b", "c", "none"].map(tellsApart), [true, false, false, false]);
near(valueAt([[0, 0], [10, 20]], 5), 10);
assert.equal(valueAt([[5, 1]], 4), null);
const scale = scaleOf([0], false, 0, 100, 0);
assert.deepEqual([scale.low, scale.high], [0, 1]);
const flat = scaleOf([5, 5 + 1e-15], false, 0, 100, 0), tiny = scaleOf([1e-8], false, 0, 100, 0);
near(flat.high - flat.low, 1);
assert(tiny.high > 1e-8 && tiny.high < 2e-8);
near(scaleOf([1, 100], true, 0, 100, 0).place(10), 50);
const line = [[1, 5], [3, 6], [4, 7], [9, 8]];
for (const [x, want] of [[-1, 5], [1.9, 5], [2, 5], [2.1, 6], [4, 7], [7, 8], [99, 8]]) assert.equal(nearestPoint(line, x)[1], want);
assert.equal(nearestPoint([[2, 1]], 5)[1], 1);
assert.equal(nearestPoint([], 5), null);
draw(["a", "b", "c"]);
drawn.delete("b");
draw(["c", "d", "e"]);
assert.deepEqual([...drawn], [["a", 0], ["c", 2], ["d", 1], ["e", 3]]); // the lowest free places
assert.equal(settingOf({ settings: {} }, "a"), 1);
assert.equal(settingOf({ settings: { a: null } }, "a"), null);
`)
	cmd := exec.Command(node, "-")
	cmd.Stdin = strings.NewReader(program.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Both scripts compile: a page with a broken script is empty.
func TestScriptsCompile(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("Node.js is not installed")
	}
	for name, source := range map[string]string{"script.js": script, "live.js": live, "both": script + "\n" + live} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(node, "--check", "-")
			cmd.Stdin = strings.NewReader(source)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
