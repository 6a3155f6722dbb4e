package endtoend

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	_ "github.com/mattn/go-sqlite3"
	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"github.com/ulikunitz/xz"

	"github.com/koala-lm/koala-lm/cmd/internal/serial"
	"github.com/koala-lm/koala-lm/internal/visible"
)

var (
	mutateFor   = flag.Duration("mutate", 0, "mutate the inputs of every reader for so long (TestMutations)")
	mutateSeed  = flag.Uint64("mutate-seed", 0, "the first seed of TestMutations; 0 is the time")
	mutateOnly  = flag.String("mutate-only", "", "mutate only inputs whose names match this expression")
	mutateTasks = flag.Int("mutate-tasks", runtime.NumCPU(), "how many programs TestMutations runs at a time")
)

// The budget of a program with a small input.
const (
	mutatedCPU    = 20      // seconds
	mutatedMemory = 2 << 20 // KiB resident
	mutatedSpace  = 8 << 20 // KiB of addresses, of koala-lm; libtorch takes more
	mutatedWait   = 5 * time.Minute
)

// An input is a file that a program reads. The command finds the input in place of the
// file of that name in a copy of the folder, or alone if folder is "".
type input struct {
	name    string
	folder  string // is copied; "" is an empty folder
	file    string // in the copy
	content []byte
	mutate  func(r *rand.Rand, content []byte) []byte // nil is mutate
	command []string
	engine  bool // the command computes: it loads libtorch
	code    int  // exit code with the input as it is
}

// Whatever happens to a file, each program that reads it ends in time and memory, with
// a documented exit code, without a trace of Go and without control characters on the
// terminal, and leaves nothing half made.
func TestMutations(t *testing.T) {
	if *mutateFor == 0 {
		t.Skip("-mutate DURATION runs it")
	}
	inputs := mutatedInputs(t)
	if *mutateOnly != "" {
		only := regexp.MustCompile(*mutateOnly)
		inputs = slices.DeleteFunc(inputs, func(in input) bool { return !only.MatchString(in.name) })
	}
	seed := cmp.Or(*mutateSeed, uint64(time.Now().UnixNano()))
	t.Logf("%d inputs, first seed %d", len(inputs), seed)
	scores := make([]score, len(inputs))
	var mu sync.Mutex
	// Each task takes the input on which the least time was spent: engines are slow to
	// start. A tenth of the time is theirs.
	next := func() int {
		mu.Lock()
		defer mu.Unlock()
		least := 0
		for i := range scores {
			if scores[i].spent < scores[least].spent {
				least = i
			}
		}
		scores[least].spent += time.Millisecond // several tasks take several inputs
		return least
	}
	programs := serialPrograms(t)
	first := newRunner(t, programs)
	for _, in := range inputs { // as they are, they are read
		in.mutate = func(_ *rand.Rand, content []byte) []byte { return content }
		if got := first.tryMutation(t, in, 0, 0); got.code != in.code {
			t.Fatalf("%s, unchanged: exit code %d, want %d; it said:\n%s", in.name, got.code, in.code, got.said)
		}
	}
	deadline := time.Now().Add(*mutateFor)
	var tasks sync.WaitGroup
	for range *mutateTasks {
		r := newRunner(t, programs)
		tasks.Go(func() {
			for time.Now().Before(deadline) {
				i := next()
				mu.Lock()
				number := scores[i].tried
				scores[i].tried++
				mu.Unlock()
				result := r.tryMutation(t, inputs[i], seed, number)
				mu.Lock()
				scores[i].add(result, inputs[i].engine)
				mu.Unlock()
			}
		})
	}
	tasks.Wait()
	var table strings.Builder
	total, failed := 0, 0
	fmt.Fprintf(&table, "%-32s %8s %7s %10s %8s  %s\n", "reader", "tried", "failed", "RSS KiB", "CPU ms", "exit codes")
	for i, s := range scores {
		total, failed = total+s.tried, failed+s.failed
		fmt.Fprintf(&table, "%-32s %8d %7d %10d %8d  %v\n", inputs[i].name, s.tried, s.failed, s.memory, s.cpu.Milliseconds(), s.codes)
	}
	t.Logf("%d mutations, %d failed\n%s", total, failed, &table)
}

// score counts what happened to the mutations of an input.
type score struct {
	tried, failed int
	memory        int64 // the most, in KiB
	cpu           time.Duration
	spent         time.Duration
	codes         map[int]int
}

type mutationResult struct {
	code   int
	said   string
	failed bool
	memory int64
	cpu    time.Duration
}

func (s *score) add(r mutationResult, engine bool) {
	if s.codes == nil {
		s.codes = map[int]int{}
	}
	s.codes[r.code]++
	if r.failed {
		s.failed++
	}
	s.memory, s.cpu = max(s.memory, r.memory), max(s.cpu, r.cpu)
	if engine { // fewer of the slow ones
		r.cpu *= 2
	}
	s.spent += r.cpu
}

// An ending is how a program ended.
type ending struct {
	code   int
	said   string
	memory int64 // the most resident, in KiB
	cpu    time.Duration
	broken string // how the process broke off, or ""
}

// A runner runs the commands of inputs: many in one process, and in a process of
// their own.
type runner struct {
	koala, engine *serial.Server
	catcher       string // a folder with koala-lm and an engine that writes its request to a file
	caught        string // the file
}

// newRunner is ready when the programs of [serialPrograms] are in the folder.
func newRunner(t *testing.T, programs string) *runner {
	r := &runner{
		koala:   &serial.Server{Program: filepath.Join(programs, "koala-lm.test"), Wait: mutatedWait},
		engine:  &serial.Server{Program: filepath.Join(programs, "koala-lm-engine.test"), Wait: mutatedWait},
		catcher: t.TempDir(),
	}
	r.caught = filepath.Join(r.catcher, "caught")
	program, err := os.ReadFile(filepath.Join(bin, "koala-lm"))
	if err == nil {
		err = os.WriteFile(filepath.Join(r.catcher, "koala-lm"), program, 0o755)
	}
	if err == nil {
		script := "#!/bin/sh\nprintf '%s' \"$1\" > '" + r.caught + ".verb'; printf '%s' \"$2\" > '" + r.caught + "'\n"
		err = os.WriteFile(filepath.Join(r.catcher, "koala-lm-engine"), []byte(script), 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.koala.Close(); r.engine.Close() })
	return r
}

// serialPrograms builds the commands' tests, which run many command lines in one process.
func serialPrograms(t *testing.T) string {
	dir := t.TempDir()
	for _, program := range []string{"koala-lm", "koala-lm-engine"} {
		if out, err := exec.Command("go", "test", "-c", "-o", filepath.Join(dir, program+".test"), "../../"+program).CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	return dir
}

// together runs the command in a process that runs others too.
func (r *runner) together(in input, dir string) (ending, error) {
	server, args := r.koala, in.command
	var first ending
	if in.engine { // koala-lm checks and resolves, and the engine computes
		os.Remove(r.caught + ".verb")
		var err error
		if first, err = alone(filepath.Join(r.catcher, "koala-lm"), in, dir); err != nil || first.code != 0 {
			return first, err
		}
		verb, err := os.ReadFile(r.caught + ".verb")
		if errors.Is(err, fs.ErrNotExist) { // there was nothing to compute
			return first, nil
		} else if err != nil {
			return ending{}, err
		}
		request, err := os.ReadFile(r.caught)
		if err != nil {
			return ending{}, err
		}
		server, args = r.engine, []string{string(verb), string(request)}
	}
	result, alive, err := server.Run(serial.Task{Folder: dir, Args: args, CPU: mutatedCPU * time.Second})
	got := ending{code: result.Code, said: first.said + result.Said, memory: result.Memory, cpu: first.cpu + result.CPU}
	if !alive {
		got.broken = fmt.Sprintf("exit code %d of the process", result.Code)
	}
	return got, err
}

// alone runs the command in a process of its own.
func alone(program string, in input, dir string) (ending, error) {
	space := fmt.Sprintf("ulimit -v %d; ", mutatedSpace)
	if in.engine {
		space = ""
	}
	script := space + fmt.Sprintf(`ulimit -t %d; ulimit -f 2000000; exec "$@"`, mutatedCPU)
	cmd := exec.Command("sh", append([]string{"-c", script, "sh", program}, in.command...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "OMP_NUM_THREADS=1", "HOME="+dir, "XDG_CONFIG_HOME="+dir, "KOALA_LM_MIRROR="+dir, "GOMAXPROCS=2")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &serial.Limited{Buffer: &stdout}, &serial.Limited{Buffer: &stderr}
	late := time.AfterFunc(mutatedWait, func() { cmd.Process.Kill() })
	err := cmd.Run()
	late.Stop()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return ending{}, err
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	got := ending{code: cmd.ProcessState.ExitCode(), said: stderr.String(), memory: usage.Maxrss, cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
	if got.code < 0 || got.code > 2 {
		got.broken = cmd.ProcessState.String()
	}
	return got, nil
}

// wrongs are what is wrong with how a program ended, in a folder that held the names
// before.
func wrongs(got ending, dir string, before []string) (wrong []string) {
	switch {
	case got.broken != "":
		wrong = append(wrong, got.broken)
	case got.code < 0 || got.code > 2:
		wrong = append(wrong, fmt.Sprintf("exit code %d", got.code))
	}
	if got.memory > mutatedMemory {
		wrong = append(wrong, fmt.Sprintf("%d KiB of memory", got.memory))
	}
	if trace := traces.FindString(got.said); trace != "" {
		wrong = append(wrong, "it says "+trace)
	}
	if visible.Lines(got.said) != got.said {
		wrong = append(wrong, "control characters in its messages")
	}
	if got.code == 0 {
		return wrong
	}
	if got.said == "" {
		wrong = append(wrong, "no message")
	}
	for _, name := range names(dir) {
		if !slices.Contains(before, name) && !strings.Contains(name, ".db") && !strings.HasPrefix(name, "runs") {
			wrong = append(wrong, "it leaves "+name)
		}
	}
	return wrong
}

// tryMutation runs the command on one mutation, beside others; what then looks wrong,
// and a sample, in a process of its own. A failure keeps the input.
func (r *runner) tryMutation(t *testing.T, in input, seed uint64, number int) mutationResult {
	t.Helper()
	dir, before, err := mutation(in, seed, number)
	if err != nil {
		t.Error(err)
		return mutationResult{}
	}
	defer func() { os.RemoveAll(dir) }()
	got, err := r.together(in, dir)
	if err != nil {
		t.Error(err)
		return mutationResult{}
	}
	wrong := wrongs(got, dir, before)
	if len(wrong) > 0 || number%100 == 0 {
		os.RemoveAll(dir)
		if dir, before, err = mutation(in, seed, number); err != nil {
			t.Error(err)
			return mutationResult{}
		}
		beside := got
		if got, err = alone(filepath.Join(bin, "koala-lm"), in, dir); err != nil {
			t.Error(err)
			return mutationResult{}
		}
		switch again := wrongs(got, dir, before); {
		case len(again) > 0:
			wrong = again
		case len(wrong) > 0:
			wrong = append(wrong, "only in one process with others")
			got.said = beside.said
		case got.code != beside.code:
			wrong = append(wrong, fmt.Sprintf("exit code %d in one process with others, %d in one of its own", beside.code, got.code))
		}
	}
	result := mutationResult{code: got.code, said: got.said, memory: got.memory, cpu: got.cpu, failed: len(wrong) > 0}
	if result.failed {
		t.Errorf("%s, mutation %d of seed %d in %s: %s\ncommand: %q\nit said: %.2000s", in.name, number, seed, dir, strings.Join(wrong, "; "), in.command, got.said)
		dir = "" // is kept
	}
	return result
}

// mutation makes a folder with a mutation of an input, and returns the names in it.
func mutation(in input, seed uint64, number int) (dir string, before []string, err error) {
	r := rand.New(rand.NewPCG(seed, uint64(number)<<32|uint64(crc32.ChecksumIEEE([]byte(in.name)))))
	if dir, err = os.MkdirTemp("", "koala-lm-mutation-"); err != nil {
		return "", nil, err
	}
	if in.folder != "" {
		if err := os.CopyFS(dir, os.DirFS(in.folder)); err != nil {
			return dir, nil, err
		}
	}
	change := in.mutate
	if change == nil {
		change = mutate
	}
	path := filepath.Join(dir, in.file)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, change(r, slices.Clone(in.content)), 0o644)); err != nil {
		return dir, nil, err
	}
	return dir, names(dir), nil
}

// traces are the words of Go, of the C library and of the loader for a defect.
var traces = regexp.MustCompile(`panic|goroutine \d|SIG[A-Z]{3,}|runtime error|fatal error|terminate called|Segmentation|core dumped|assertion|Sprintf|%!\w\(`)

// names lists what a folder holds.
func names(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// ---- mutations -------------------------------------------------------------

// hostile are texts in place of names and values.
var hostile = []string{"", "\x1b]0;title\a\x1b[2J", "../../x", "/etc/passwd", strings.Repeat("a", 70_000), "\u202e", "a\x00b", "\xff\xfe", "NaN", "null", "[]", "{}", "%s%n", "-"}

// numbers are numbers at which readers err.
var numbers = []string{"0", "-1", "1", "2", "255", "65536", "2147483647", "2147483648", "4294967296", "9223372036854775807", "18446744073709551616",
	"1e308", "-1e308", "1e400", "0.5", "1e-320", "NaN", "Infinity", "true", "\"7\"", "null", "100000", "99999999"}

var (
	aNumber = regexp.MustCompile(`-?\d+(\.\d+)?([eE][-+]?\d+)?`)
	aString = regexp.MustCompile(`"[^"\n]*"`)
	aWord   = regexp.MustCompile(`\w+`)
)

// mutate changes a file in one to four ways.
func mutate(r *rand.Rand, b []byte) []byte {
	for range 1 + r.IntN(4) {
		b = mutateOnce(r, b)
	}
	return b
}

func mutateOnce(r *rand.Rand, b []byte) []byte {
	if len(b) == 0 {
		return []byte{byte(r.Uint32())}
	}
	at := r.IntN(len(b))
	length := 1 + r.IntN(1+min(len(b)-at-1, 1<<r.IntN(12)))
	switch r.IntN(14) {
	case 0:
		b[at] ^= 1 << r.IntN(8)
	case 1:
		b[at] = []byte{0, 1, 0x7f, 0x80, 0xff, '"', '\n', '{', 0x1b}[r.IntN(9)]
	case 2:
		b[at] ^= 0xff
	case 3:
		return b[:at]
	case 4:
		return slices.Delete(b, at, at+length)
	case 5: // a part twice
		return slices.Insert(b, at, slices.Clone(b[at:at+length])...)
	case 6: // a part in another place
		copy(b[r.IntN(len(b)):], b[at:at+length])
	case 7:
		random := make([]byte, length)
		for i := range random {
			random[i] = byte(r.Uint32())
		}
		return slices.Insert(b, at, random...)
	case 8: // a number of a binary format
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], []uint64{0, 1, 1<<31 - 1, 1 << 31, 1 << 32, 1<<63 - 1, 1 << 63, ^uint64(0), 1 << 40}[r.IntN(9)])
		copy(b[at:], n[:1<<r.IntN(4)])
	case 9:
		return replaceOne(r, b, aNumber, numbers)
	case 10:
		return replaceOne(r, b, aString, hostile)
	case 11:
		return replaceOne(r, b, aWord, append(numbers, hostile...))
	case 12: // a line less
		lines := bytes.SplitAfter(b, []byte("\n"))
		i := r.IntN(len(lines))
		return bytes.Join(slices.Delete(lines, i, i+1), nil)
	case 13: // two lines change places
		lines := bytes.SplitAfter(b, []byte("\n"))
		i, j := r.IntN(len(lines)), r.IntN(len(lines))
		lines[i], lines[j] = lines[j], lines[i]
		return bytes.Join(lines, nil)
	}
	return b
}

// replaceOne replaces one match of a pattern by one of the texts. Quotes stay.
func replaceOne(r *rand.Rand, b []byte, pattern *regexp.Regexp, by []string) []byte {
	from := 0 // large files are searched from a random place on
	if len(b) > 1<<16 {
		from = r.IntN(len(b) - 1<<15)
	}
	found := pattern.FindAllIndex(b[from:min(len(b), from+1<<16)], -1)
	if len(found) == 0 {
		return b
	}
	at := found[r.IntN(len(found))]
	text := by[r.IntN(len(by))]
	if pattern == aString {
		quoted, _ := json.Marshal(text)
		text = string(quoted)
	}
	return slices.Concat(b[:from+at[0]], []byte(text), b[from+at[1]:])
}

// mutateHeader mutates the header of a safetensors file, whose length it corrects. The
// checksum of a checkpoint is made right again.
func mutateHeader(r *rand.Rand, b []byte) []byte {
	length := binary.LittleEndian.Uint64(b)
	header, body := slices.Clone(b[8:8+length]), b[8+length:]
	for range 1 + r.IntN(3) {
		header = [](func() []byte){
			func() []byte { return replaceOne(r, header, aNumber, numbers) },
			func() []byte { return replaceOne(r, header, aWord, append(numbers, hostile...)) },
			func() []byte {
				return replaceOne(r, header, regexp.MustCompile(`\\"[^"\\]*\\"`), []string{`\"\"`, `\"x\"`, `7`, `null`})
			},
			func() []byte { return mutateOnce(r, header) },
		}[r.IntN(4)]()
	}
	file := slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header, body)
	return withChecksum(file)
}

// withChecksum returns a checkpoint with its right checksum, or the file itself if it
// is too damaged to have one.
func withChecksum(file []byte) []byte {
	length := binary.LittleEndian.Uint64(file)
	var header map[string]json.RawMessage
	if json.Unmarshal(file[8:8+length], &header) != nil {
		return file
	}
	var metadata map[string]string
	if json.Unmarshal(header["__metadata__"], &metadata) != nil || metadata["crc32c"] == "" {
		return file
	}
	crc := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		if key != "crc32c" {
			fmt.Fprintf(crc, "%q %q\n", key, metadata[key])
		}
	}
	delete(header, "__metadata__")
	for _, name := range slices.Sorted(maps.Keys(header)) {
		var info struct {
			DType   string  `json:"dtype"`
			Shape   []int64 `json:"shape"`
			Offsets []int64 `json:"data_offsets"`
		}
		body := file[8+length:]
		if json.Unmarshal(header[name], &info) != nil || len(info.Offsets) != 2 || info.Offsets[0] < 0 || info.Offsets[0] > info.Offsets[1] || info.Offsets[1] > int64(len(body)) {
			return file
		}
		fmt.Fprintf(crc, "%q %s %d\n", name, info.DType, info.Shape)
		crc.Write(body[info.Offsets[0]:info.Offsets[1]])
	}
	return bytes.Replace(file, []byte(metadata["crc32c"]), []byte(hex.EncodeToString(binary.BigEndian.AppendUint32(nil, crc.Sum32()))), 1)
}

// mutateWeights puts values that are not numbers, or too large, among the weights.
func mutateWeights(r *rand.Rand, b []byte) []byte {
	length := binary.LittleEndian.Uint64(b)
	values := [][]byte{{0, 0, 0xc0, 0x7f}, {0, 0, 0x80, 0x7f}, {0, 0, 0x80, 0xff}, {0xff, 0xff, 0x7f, 0x7f}, {1, 0, 0, 0}}
	for range 1 + r.IntN(50) {
		at := 8 + int(length) + r.IntN(max(1, (len(b)-8-int(length))/4))*4
		copy(b[at:], values[r.IntN(len(values))])
	}
	return withChecksum(b)
}

// mutateValues changes fields of a store by SQL: the file stays a store.
func mutateValues(r *rand.Rand, b []byte) []byte {
	f, err := os.CreateTemp("", "koala-lm-mutation-*.db")
	if err != nil {
		return b
	}
	defer os.Remove(f.Name())
	f.Write(b)
	f.Close()
	db, err := sql.Open("sqlite3", "file:"+f.Name()+"?_foreign_keys=0&_sync=0&_ignore_check_constraints=1&_journal_mode=DELETE")
	if err != nil {
		return b
	}
	for range 1 + r.IntN(4) {
		table := []string{"runs", "run_settings", "run_points", "run_summaries", "run_spans", "run_tags", "run_events", "metric_names", "removed_runs"}[r.IntN(9)]
		var column string
		if db.QueryRow(`SELECT name FROM pragma_table_info(?1) LIMIT 1 OFFSET ?2 % (SELECT count(*) FROM pragma_table_info(?1))`, table, r.IntN(1000)).Scan(&column) != nil {
			continue
		}
		var value any = hostile[r.IntN(len(hostile))]
		if r.IntN(2) == 0 {
			value = []any{nil, -1, int64(1) << 62, 1e308, -0.5, []byte{0xff, 0}, "2026-13-99", "9e999"}[r.IntN(8)]
		}
		db.Exec(fmt.Sprintf(`UPDATE OR IGNORE %s SET %s = ? WHERE rowid IN (SELECT rowid FROM %s ORDER BY rowid * ? %% 1009 LIMIT ?)`, table, column, table), value, 1+r.IntN(1008), 1+r.IntN(20))
	}
	if r.IntN(8) == 0 {
		db.Exec(fmt.Sprintf(`PRAGMA user_version = %d`, r.IntN(12)-6))
	}
	db.Close()
	if changed, err := os.ReadFile(f.Name()); err == nil {
		return changed
	}
	return b
}

// ---- inputs ----------------------------------------------------------------

// mutatedInputs makes an example of every file that a program reads.
func mutatedInputs(t *testing.T) []input {
	nursery := t.TempDir()
	write := func(name string, content []byte) {
		path := filepath.Join(nursery, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	read := func(name string) []byte {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	koala := func(args ...string) {
		t.Helper()
		cmd := exec.Command(filepath.Join(bin, "koala-lm"), args...)
		cmd.Dir, cmd.Env = nursery, append(os.Environ(), "OMP_NUM_THREADS=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("koala-lm %q: %v\n%s", args, err, out)
		}
	}
	text := smallLanguage(60)
	write("text.txt", smallLanguage(300))
	write("tiny.yaml", []byte(tiny))
	koala("prepare", "text.txt", "--out", "data", "--valid", "0.1", "--test", "0.1", "--quiet")
	koala("train", "--data", "data", "--config", "tiny.yaml", "--threads", "1", "--quiet", "--name", "lstm", "--set", "checkpoint.every=20", "--steps", "40")
	koala("train", "--data", "data", "--threads", "1", "--quiet", "--name", "gpt", "--steps", "20", "--set", "model.kind=transformer", "--set", "model.layers=1",
		"--set", "model.embed=8", "--set", "model.heads=2", "--set", "model.context=8", "--set", "train.batch=2", "--set", "optimizer.kind=adam", "--set", "eval.every=10")
	koala("export", "gpt", "--to", "huggingface", "--out", "hf")
	koala("report", "tag", "lstm", "a", "b")

	inputs := textInputs(t, text)
	for _, name := range []string{"bpe.json", "wordpiece.json", "unigram.json", "parts.json"} {
		content := read(filepath.Join("../../../data/tokenizer/testdata", name))
		if len(content) > 300_000 {
			continue
		}
		inputs = append(inputs, input{name: "tokenizer " + name, folder: "", file: "tokenizer.json", content: content, command: nil})
	}
	inputs = append(inputs, input{name: "tokenizer word", file: "tokenizer.json", content: read(filepath.Join(nursery, "data/tokenizer.json"))},
		input{name: "tokenizer tiktoken", file: "t.tiktoken", content: tiktoken()})
	textFolder := t.TempDir()
	if err := os.WriteFile(filepath.Join(textFolder, "text.txt"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	for i := range inputs {
		if strings.HasPrefix(inputs[i].name, "tokenizer ") {
			inputs[i].folder = textFolder
			inputs[i].command = []string{"prepare", "text.txt", "--tokenizer", inputs[i].file, "--out", "o", "--quiet", "--workers", "1"}
		}
	}

	// A folder with all, but small: it is copied for each mutation.
	folder := func(parts ...string) string {
		dir := t.TempDir()
		for _, part := range parts {
			from := filepath.Join(nursery, part)
			if info, err := os.Stat(from); err != nil {
				t.Fatal(err)
			} else if !info.IsDir() {
				if err := os.WriteFile(filepath.Join(dir, part), read(from), 0o644); err != nil {
					t.Fatal(err)
				}
				continue
			}
			if err := os.CopyFS(filepath.Join(dir, part), os.DirFS(from)); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	mirror := t.TempDir()
	if err := os.CopyFS(filepath.Join(mirror, "example.org"), os.DirFS(textFolder)); err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(text))
	dataset, settings := folder("data"), folder("data", "tiny.yaml")
	for _, file := range []string{"dataset.json", "tokenizer.json", "train.bin"} {
		content := read(filepath.Join(dataset, "data", file))
		inputs = append(inputs, input{name: "verify " + file, folder: dataset, file: "data/" + file, content: content, command: []string{"prepare", "--verify", "data"}},
			input{name: "show " + file, folder: dataset, file: "data/" + file, content: content, command: []string{"prepare", "--show", "data"}},
			input{name: "train on " + file, folder: settings, file: "data/" + file, content: content, engine: true,
				command: []string{"train", "--data", "data", "--config", "tiny.yaml", "--steps", "2", "--threads", "1", "--quiet"}})
	}
	full := []byte("model: {kind: transformer, layers: 1, embed: 16, heads: 2, context: 8, norm: rms, position: rotary, mlp: swiglu}\n" +
		"optimizer: {kind: koala-v, sigma: 1, q: 10, lr: 0.1}\nschedule: {kind: cosine, warmup: 1}\ntrain: {batch: 4, steps: 30, clip: 0.5, accumulate: 2}\n" +
		"eval: {every: 10, patience: 3}\ncheckpoint: {every: 10, keep: 2}\n")
	inputs = append(inputs, input{name: "settings", folder: dataset, file: "s.yaml", content: full, command: []string{"train", "--data", "data", "--config", "s.yaml", "--dry-run"}},
		input{name: "settings, trained", folder: dataset, file: "s.yaml", content: full, engine: true,
			command: []string{"train", "--data", "data", "--config", "s.yaml", "--steps", "3", "--threads", "1", "--quiet"}},
		input{name: "sweep file", folder: settings, file: "w.yaml", content: []byte("config: tiny.yaml\ndata: data\nseeds: [1, 2]\nstop: {kind: asha, min_steps: 10}\n" +
			"searches:\n- name: a\n  grid: {optimizer.lr: [0.1, 1], train.bptt: [8, 16]}\n  best_seeds: [3, 4]\n" +
			"- name: b\n  random: {optimizer.lr: {log: [0.1, 1]}, train.batch: [4, 8]}\n  trials: 3\n"), command: []string{"sweep", "w.yaml", "--dry-run"}},
		input{name: "list of corpora", folder: mirror, file: "koala-lm/corpora.yaml", content: []byte("mine:\n  about: a text\n  rows: lines\n  files:\n" +
			"    - {url: \"http://example.org/text.txt\", split: train, sha256: " + sum + "}\n"), command: []string{"prepare", "--corpus", "mine", "--out", "o", "--quiet"}})

	store := storeContent(t, filepath.Join(nursery, "runs/koala.db"))
	for _, how := range []struct {
		name   string
		change func(*rand.Rand, []byte) []byte
	}{{"store bytes", nil}, {"store values", mutateValues}} {
		for _, command := range []string{"list --format json", "show latest", "best --by val_ppl --group-by optimizer.kind", "compare lstm gpt", "curve lstm gpt --metric train_loss --out c.svg",
			"html --out p.html", "export --to tensorboard --out e", "export --to csv --out e.csv", "import s.db --store new.db", "gc --dry-run", "list --where val_ppl<9&&'a'in~tags --sort -val_ppl --format csv"} {
			args := strings.Fields(command)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "~", " ")
			}
			if args[0] != "import" {
				args = append(args, "--store", "s.db")
			}
			inputs = append(inputs, input{name: how.name + ": " + args[0], file: "s.db", content: store, mutate: how.change, command: append([]string{"report"}, args...)})
		}
		inputs = append(inputs, input{name: how.name + ": resume", folder: folder("data"), file: "runs/koala.db", content: store, mutate: how.change, engine: true,
			command: []string{"train", "--resume", "latest", "--quiet", "--threads", "1"}})
	}

	checkpoints, err := filepath.Glob(filepath.Join(nursery, "runs/*/checkpoints/step-*.safetensors"))
	if err != nil || len(checkpoints) == 0 {
		t.Fatal(checkpoints, err)
	}
	slices.Sort(checkpoints)
	checkpoint := read(checkpoints[0])
	scored := []string{"eval", "c.safetensors", "--data", "data", "--split", "valid", "--threads", "1", "--quiet"}
	inputs = append(inputs, input{name: "checkpoint bytes", folder: dataset, file: "c.safetensors", content: checkpoint, command: scored, engine: true},
		input{name: "checkpoint header", folder: dataset, file: "c.safetensors", content: checkpoint, mutate: mutateHeader, command: scored, engine: true},
		input{name: "checkpoint weights", folder: dataset, file: "c.safetensors", content: checkpoint, mutate: mutateWeights, command: scored, engine: true},
		input{name: "init", folder: settings, file: "c.safetensors", content: checkpoint, mutate: mutateHeader, engine: true,
			command: []string{"train", "--init", "c.safetensors", "--data", "data", "--config", "tiny.yaml", "--steps", "1", "--threads", "1", "--quiet"}})
	hf := folder("hf")
	for _, file := range []string{"config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"} {
		inputs = append(inputs, input{name: "folder's " + file, folder: hf, file: "hf/" + file, content: read(filepath.Join(hf, "hf", file)), engine: true,
			command: []string{"generate", "hf", "--tokens", "3", "--seed", "1", "--threads", "1", "--prompt", "the koala"}})
	}
	weights := read(filepath.Join(hf, "hf/model.safetensors"))
	for name, change := range map[string]func(*rand.Rand, []byte) []byte{"bytes": nil, "header": mutateHeader, "weights": mutateWeights} {
		inputs = append(inputs, input{name: "folder's weights, " + name, folder: hf, file: "hf/model.safetensors", content: weights, mutate: change, engine: true,
			command: []string{"generate", "hf", "--tokens", "3", "--seed", "1", "--threads", "1", "--prompt", "the koala"}})
	}
	inputs = append(inputs, input{name: "text to score", folder: hf, file: "t.txt", content: text[:200], engine: true, command: []string{"eval", "hf", "t.txt", "--threads", "1", "--quiet"}})
	slices.SortStableFunc(inputs, func(a, b input) int { return cmp.Compare(a.name, b.name) })
	return inputs
}

// storeContent is a store as one file, without a log beside it.
func storeContent(t *testing.T, path string) []byte {
	t.Helper()
	copied := filepath.Join(t.TempDir(), "s.db")
	db, err := sql.Open("sqlite3", "file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`VACUUM INTO ?`, copied); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(copied)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// tiktoken is a file of as many ranks as GPT-2's, by which its split is known.
func tiktoken() []byte {
	var b bytes.Buffer
	for rank := range 50256 {
		token := []byte{byte(rank)}
		if pair := rank - 256; pair >= 0 {
			token = []byte{byte(pair >> 8), byte(pair)}
		}
		fmt.Fprintf(&b, "%s %d\n", base64.StdEncoding.EncodeToString(token), rank)
	}
	return b.Bytes()
}

// textInputs are a text in every format that prepare reads.
func textInputs(t *testing.T, text []byte) []input {
	packed := func(pack func(io.Writer) (io.WriteCloser, error), content []byte) []byte {
		t.Helper()
		var b bytes.Buffer
		w, err := pack(&b)
		if err == nil {
			_, err = w.Write(content)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	gz := func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }
	var jsonl, csv bytes.Buffer
	csv.WriteString("id,text\n")
	var records []map[string]string
	for i, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		record := map[string]string{"text": line, "title": fmt.Sprint(i)}
		records = append(records, record)
		json.NewEncoder(&jsonl).Encode(record)
		fmt.Fprintf(&csv, "%d,\"%s\"\n", i, line)
	}
	array, _ := json.Marshal(records)
	files := map[string][]byte{
		"t.txt": text, "t.jsonl": jsonl.Bytes(), "t.json": array, "t.csv": csv.Bytes(), "t.tar": tarOf(t, text), "t.zip": zipOf(t, text),
		"t.txt.gz": packed(gz, text), "t.tar.gz": packed(gz, tarOf(t, text)),
		"t.txt.zst": packed(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }, text),
		"t.txt.xz":  packed(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }, text),
		"t.txt.bz2": bzip2Text,
	}
	type row struct {
		Title string   `parquet:"title"`
		Text  string   `parquet:"text"`
		Tags  []string `parquet:"tags,list"`
	}
	for name, codec := range map[string]compress.Codec{"none": &parquet.Uncompressed, "snappy": &parquet.Snappy, "gzip": &parquet.Gzip,
		"zstd": &parquet.Zstd, "lz4": &parquet.Lz4Raw, "brotli": &parquet.Brotli} {
		for _, version := range []int{1, 2} {
			var b bytes.Buffer
			w := parquet.NewGenericWriter[row](&b, parquet.Compression(codec), parquet.DataPageVersion(version))
			for _, r := range records {
				if _, err := w.Write([]row{{r["title"], r["text"], []string{"a", r["title"]}}}); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			files[fmt.Sprintf("%s%d.parquet", name, version)] = b.Bytes()
		}
	}
	var inputs []input
	for _, name := range slices.Sorted(maps.Keys(files)) {
		inputs = append(inputs, input{name: "text " + name, file: name, content: files[name],
			command: []string{"prepare", name, "--out", "o", "--valid", "0", "--test", "0", "--workers", "1", "--quiet"}})
	}
	return inputs
}

func tarOf(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"a.txt", "folder/b.txt"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipOf(t *testing.T, text []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range []string{"a.txt", "folder/b.txt"} {
		f, err := w.Create(name)
		if err == nil {
			_, err = f.Write(text)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bzip2Text is a text that bzip2 packed; Go's library only unpacks it.
var bzip2Text = func() []byte {
	packed, err := base64.StdEncoding.DecodeString("QlpoOTFBWSZTWSME9XMAAu3RgAAQQAA/b9+AMAEYAUaMgaNMjQo0ZA0aZGgUqmRNEwCbT2Vbk1JuTwTUmpNCdyZE2JkmCZJuT2T0TsTJOYnomCbkyTwTJOZOZNCZE1J9JsT/JwTQTkTuTUT4TBME8E+EyTYmwnQTyTUm5OCfSak8k5E2J1J0Jkn0mROCbE4E3JgnUnYmCYJoT8LuSKcKEgRgnq5g")
	if err != nil {
		panic(err)
	}
	return packed
}()
