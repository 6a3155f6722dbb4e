package endtoend

import (
	"fmt"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

// terminal is `terminal N FILE COMMAND [ARG...]`: the command runs with its
// streams on a terminal of 100 columns. Its output goes to FILE, escape sequences
// included, and it must exit with code N.
func terminal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: terminal N FILE COMMAND [ARG...]")
	}
	master, slave, err := openTerminal()
	ts.Check(err)
	defer master.Close()
	cmd := command(ts, args[2:])
	cmd.Env = append(cmd.Env, "TERM=xterm-256color")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	shown := make(chan string, 1)
	ts.Check(cmd.Start())
	slave.Close()
	go func() {
		var text strings.Builder
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			text.Write(buf[:n])
			if err != nil { // EIO once the other side is closed
				shown <- text.String()
				return
			}
		}
	}()
	err = cmd.Wait()
	text := <-shown
	ts.Logf("[terminal]\n%q", text)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(text), 0o644))
	wantCode(ts, err, args[0], args[2:])
}

// openTerminal makes a pseudo-terminal.
func openTerminal() (master, slave *os.File, err error) {
	master, err = os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(master.Fd())
	err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 100})
	}
	var number int
	if err == nil {
		number, err = unix.IoctlGetInt(fd, unix.TIOCGPTN)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
	}
	return master, slave, err
}
