package tracking

import (
	"sync"
	"time"

	"github.com/mattn/go-sqlite3"

	"github.com/koala-lm/koala-lm/tracking/environment"
)

// isDead decides about a run recorded as running: on its own host by its
// process, elsewhere by the age of its last sign of life. One that is to come, as
// the clock was set back, is as little a sign as an old one: a live run gives
// another within seconds.
func isDead(observer *environment.Observer, p environment.Process, heartbeat, now time.Time) bool {
	switch observer.Look(p) {
	case environment.Alive:
		return false
	case environment.Gone:
		return true
	}
	return now.Sub(heartbeat).Abs() > HeartbeatStale
}

var thisHost = sync.OnceValue(environment.NewObserver)

// registerFunctions teaches a connection is_dead(host, boot, pid_namespace,
// pid, process_start, heartbeat), so that SQL sees the status that readers see.
func registerFunctions(conn *sqlite3.SQLiteConn) error {
	return conn.RegisterFunc("is_dead", func(host, boot, namespace string, pid, start int64, heartbeat string) bool {
		p := environment.Process{Host: host, Boot: boot, Namespace: namespace, PID: int(pid), Start: start}
		return isDead(thisHost(), p, parseTime(heartbeat), time.Now())
	}, false)
}
