package exporter

import "time"

// instant is one moment by both clocks of the machine.
type instant struct {
	wall time.Time
	run  time.Duration // since the exporter was opened, by the clock that no one sets
}

func (e *Exporter) readClocks() instant { return instant{time.Now(), time.Since(e.opened)} }

// ages says how old files are. The wall clock dates a file when it is first seen, as after a start of the agent; from
// then on it may leap, and the files grow older by the other clock.
type ages map[string]sighting

type sighting struct {
	run time.Duration
	age time.Duration // at that time; of a file that is dated a little ahead, less than none
}

// see notes the files that wait now, and returns how old each is.
func (a ages) see(files []File, now instant) map[string]time.Duration {
	old := make(map[string]time.Duration, len(files))
	for _, f := range files {
		s, seen := a[f.Name]
		if !seen {
			s = sighting{now.run, now.wall.Sub(f.At)}
			a[f.Name] = s
		}
		old[f.Name] = s.age + now.run - s.run
	}
	for name := range a {
		if _, waits := old[name]; !waits {
			delete(a, name)
		}
	}
	return old
}
