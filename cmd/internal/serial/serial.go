// Package serial runs one command line after another in one process, for tests that
// try thousands: most of a short command's time is the start of its process. The
// test binary of a command is the server, and another process the client.
package serial

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Variable is the environment variable that makes a test binary a server.
const Variable = "KOALA_LM_TEST_SERIAL"

// A Task is a command line, the folder that it runs in, and its budget of processor
// time.
type Task struct {
	Folder string
	Args   []string
	CPU    time.Duration
}

// A Result is what a task came to.
type Result struct {
	Code   int
	Said   string        // on standard error, the first megabyte
	Memory int64         // the most resident memory, in KiB
	CPU    time.Duration // user and system
	Retire bool          // the server ends: it has grown
}

// exhausted is the exit code of a server whose task is past its budget.
const exhausted = 99

// large is the resident memory, in KiB, at which a server makes way for a new one.
const large = 300 << 10

// Serve does tasks with run until standard input ends, and exits. A task that panics
// takes the server along, as it would its own process.
func Serve(addresses uint64, run func(args []string, stderr io.Writer) int) {
	if addresses > 0 {
		limit := syscall.Rlimit{Cur: addresses, Max: addresses}
		if err := syscall.Setrlimit(syscall.RLIMIT_AS, &limit); err != nil {
			panic(err)
		}
	}
	replies := json.NewEncoder(os.NewFile(3, "replies"))
	for tasks := json.NewDecoder(os.Stdin); ; {
		var task Task
		if err := tasks.Decode(&task); err != nil {
			os.Exit(0)
		}
		result, err := serve(task, run)
		if err == nil {
			err = replies.Encode(result)
		}
		if err != nil {
			panic(err)
		}
		if result.Retire {
			os.Exit(0)
		}
	}
}

func serve(task Task, run func(args []string, stderr io.Writer) int) (Result, error) {
	if err := os.Chdir(task.Folder); err != nil {
		return Result{}, err
	}
	for _, name := range []string{"HOME", "XDG_CONFIG_HOME", "KOALA_LM_MIRROR"} {
		os.Setenv(name, task.Folder)
	}
	// 5 sets the peak of resident memory (VmHWM) to the present size.
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return Result{}, err
	}
	before := spent()
	ended := make(chan struct{})
	go func() { // a limit of the kernel would count all tasks together
		for {
			select {
			case <-ended:
				return
			case <-time.After(time.Second):
				if spent()-before > task.CPU {
					fmt.Fprintf(os.Stderr, "more than %v of processor time\n", task.CPU)
					os.Exit(exhausted)
				}
			}
		}
	}()
	var said bytes.Buffer
	code := run(task.Args, &Limited{&said})
	close(ended)
	result := Result{Code: code, Said: said.String(), CPU: spent() - before}
	var err error
	if result.Memory, err = memory("VmHWM:"); err != nil {
		return Result{}, err
	}
	if result.Memory > large {
		debug.FreeOSMemory()
		now, err := memory("VmRSS:")
		if err != nil {
			return Result{}, err
		}
		result.Retire = now > large
	}
	return result, nil
}

// spent is the processor time of this process.
func spent() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// memory is a line of /proc/self/status, in KiB.
func memory(key string) (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	_, after, found := strings.Cut(string(status), "\n"+key)
	fields := strings.Fields(after)
	if !found || len(fields) == 0 {
		return 0, errors.New("/proc/self/status has no " + key)
	}
	return strconv.ParseInt(fields[0], 10, 64)
}

// Limited keeps the first megabyte that is written to it.
type Limited struct{ *bytes.Buffer }

func (l *Limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p[:min(len(p), max(0, 1<<20-l.Len()))])
	return len(p), nil
}

// A Server is a test binary that serves. The zero value with a Program is ready, and
// starts the process when there is a task.
type Server struct {
	Program string
	Wait    time.Duration // the most that a task may take

	cmd     *exec.Cmd
	tasks   io.WriteCloser
	replies *json.Decoder
	pipe    *os.File
	said    bytes.Buffer
}

// Run does one task. If the server dies of it, alive is false and the code is the
// process's.
func (s *Server) Run(task Task) (result Result, alive bool, err error) {
	if s.cmd == nil {
		if err := s.start(); err != nil {
			return Result{}, false, err
		}
	}
	late := time.AfterFunc(s.Wait, func() { s.cmd.Process.Kill() })
	defer late.Stop()
	if err = json.NewEncoder(s.tasks).Encode(task); err == nil {
		if err = s.replies.Decode(&result); err == nil {
			if result.Retire {
				s.end()
			}
			return result, true, nil
		}
	}
	code := s.end()
	return Result{Code: code, Said: s.said.String()}, false, nil
}

// Close ends the server.
func (s *Server) Close() { s.end() }

func (s *Server) start() error {
	replies, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer write.Close()
	s.said.Reset()
	s.cmd = exec.Command(s.Program)
	s.cmd.Env = append(os.Environ(), Variable+"=1", "OMP_NUM_THREADS=1", "GOMAXPROCS=2")
	s.cmd.Stderr = &Limited{&s.said}
	s.cmd.ExtraFiles = []*os.File{write}
	if s.tasks, err = s.cmd.StdinPipe(); err != nil {
		return err
	}
	s.pipe, s.replies = replies, json.NewDecoder(replies)
	return s.cmd.Start()
}

// end ends the process and returns its exit code.
func (s *Server) end() int {
	if s.cmd == nil {
		return 0
	}
	s.tasks.Close()
	_ = s.cmd.Wait()
	s.pipe.Close()
	code := s.cmd.ProcessState.ExitCode()
	s.cmd = nil
	return code
}
