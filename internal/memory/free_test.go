package memory

import (
	"math"
	"testing"
	"testing/fstest"
)

// The limits of both versions of control groups count, including parent groups'
// limits. Memory that the groups' processes use is not free.
func TestControlGroupFree(t *testing.T) {
	const v1, v2 = "sys/fs/cgroup/memory", "sys/fs/cgroup"
	for _, test := range []struct {
		name   string
		groups string
		files  map[string]string
		want   uint64
	}{
		{"no groups", "", nil, math.MaxInt64},
		{"version 2", "0::/a/b\n", map[string]string{v2 + "/a/b/memory.max": "1000", v2 + "/a/b/memory.stat": "file 7\nanon 300\n"}, 700},
		{"version 2, the group above", "0::/a/b\n", map[string]string{v2 + "/a/b/memory.max": "max", v2 + "/a/memory.max": "500"}, 500},
		{"version 1", "12:cpu,cpuacct:/x\n9:memory:/docker/1\n", map[string]string{
			v1 + "/docker/1/memory.limit_in_bytes": "2000", v1 + "/docker/1/memory.stat": "rss 1\ntotal_rss 600\n"}, 1400},
		{"version 1 in a container", "9:memory:/docker/1\n", map[string]string{
			v1 + "/memory.limit_in_bytes": "2000", v1 + "/memory.stat": "total_rss 600\n"}, 1400},
		{"version 1 without a limit", "9:memory:/\n", map[string]string{v1 + "/memory.limit_in_bytes": "9223372036854771712"}, 9223372036854771712},
		{"both", "9:memory:/a\n0::/b\n", map[string]string{v1 + "/a/memory.limit_in_bytes": "2000", v2 + "/b/memory.max": "1000"}, 1000},
		{"more in use than allowed", "0::/\n", map[string]string{v2 + "/memory.max": "10", v2 + "/memory.stat": "anon 20\n"}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			system := fstest.MapFS{"proc/self/cgroup": {Data: []byte(test.groups)}}
			for name, text := range test.files {
				system[name] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := controlGroupFree(system); got != test.want {
				t.Errorf("%d bytes are free, want %d", got, test.want)
			}
		})
	}
}
