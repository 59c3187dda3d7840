package selfupdate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/clock"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/internal/filelock"
)

// The two parts, by the names of their containers.
const (
	Agent = "agent"
	Guard = "guard"
)

// phase is how far a step is.
type phase string

const (
	asked     phase = "asked"     // the agent waits for its guard
	watched   phase = "watched"   // the other part watches, so the image may be changed
	confirmed phase = "confirmed" // what is new works
	undone    phase = "undone"    // what is new did not say so in time: the old image comes back
	restored  phase = "restored"  // the old image runs again
)

// Record is the step that is under way, or was the last.
type Record struct {
	ID    string `json:"id"`
	Part  string `json:"part"`          // whose image changes
	For   string `json:"for,omitempty"` // key of the assignment that names it; empty: the guard follows its agent
	From  string `json:"from"`          // images
	To    string `json:"to"`
	Phase phase  `json:"phase"`
	// At is when the step was watched first, in UTC; zero: it is not yet, or by a version that did not keep it.
	At time.Time `json:"at,omitzero"`
	// Boot and Since are the same by the clock that nobody sets, which counts from a start of the machine; empty: it
	// has none, or a version did not keep it.
	Boot  string        `json:"boot,omitempty"`
	Since time.Duration `json:"since,omitempty"`
	// Starts is how often the agent was started while it is watched, on a machine.
	Starts int `json:"starts,omitempty"`
}

// maxStarts is how often an agent that is watched is started on a machine: one that ends each time does not hold the
// cell up for the whole limit, and neither does a machine that starts anew each time.
const maxStarts = 5

// start decides which image is started where one is chosen, and what a step to that image becomes by it. An agent
// whose step was undone is not started any more, whoever chose it in the same moment.
func (r Record) start(chosen string) (image string, next Record) {
	next = r
	switch {
	case r.Part != Agent || r.To != chosen:
		return chosen, r
	case r.Phase == watched && r.Starts >= maxStarts:
		next.Phase = undone
		return r.From, next
	case r.Phase == watched:
		next.Starts++
		return chosen, next
	case r.Phase == undone || r.Phase == restored:
		return r.From, r
	}
	return chosen, r
}

// instant is a point in time by both clocks: see Record.At and Record.Boot.
type instant struct {
	wall  time.Time
	boot  string
	since time.Duration
}

// readClocks returns the present instant.
func readClocks() instant {
	now := instant{wall: time.Now()}
	if boot, since, ok := clock.ReadMonotonic(); ok {
		now.boot, now.since = boot, since
	}
	return now
}

// watchedSince returns r as a step that is watched from an instant on. Two records that are equal are the same value.
func (r Record) watchedSince(now instant) Record {
	r.Phase, r.At = watched, now.wall.UTC().Truncate(time.Second)
	r.Boot, r.Since = now.boot, now.since
	return r
}

// watchedFor returns for how long a step is watched: seen is for how long this process knows that. A pod that is
// replaced again and again begins no new wait. The wall clock, which may be set meanwhile, counts only once the machine
// was started again, or the pod is on another one.
func (r Record) watchedFor(seen time.Duration, now instant) time.Duration {
	switch {
	case r.Phase != watched:
		return seen
	case r.Boot != "" && r.Boot == now.boot:
		return max(seen, now.since-r.Since)
	case r.At.IsZero():
		return seen
	}
	return max(seen, now.wall.Sub(r.At))
}

// images are those of the two parts, by container: as the workload is to run, and as this pod does run.
type images struct{ wanted, running map[string]string }

// act is what a part does about a record.
type act string

const (
	actNothing act = ""
	actWatch   act = "watch"   // say that it watches
	actConfirm act = "confirm" // say that it works
	actChange  act = "change"  // change the guard's image, as follow could not
	actUndo    act = "undo"    // decide that the old image comes back
	actRestore act = "restore" // change the image back
	actRestart act = "restart" // replace the pod, in which the new image still is
	actSettle  act = "settle"  // say that the old image runs again
)

// watch decides what the part does whose image does not change. since is for how long the step is watched.
func (r Record) watch(now images, since, limit time.Duration) act {
	switch {
	case r.Phase == asked:
		return actWatch
	case r.Phase == watched && since >= limit:
		return actUndo
	case r.Phase == watched && r.Part == Guard && now.wanted[Guard] == r.From: // of an agent, advance does it
		return actChange
	case r.Phase == undone && now.wanted[r.Part] == r.To:
		return actRestore
	case r.Phase == undone && now.running[r.Part] == r.To:
		return actRestart
	case r.Phase == undone:
		return actSettle
	}
	return actNothing
}

// prove decides what the part does whose image changes. works says that it does what it is there for.
func (r Record) prove(now images, works bool) act {
	if r.Phase == watched && now.running[r.Part] == r.To && works {
		return actConfirm
	}
	return actNothing
}

// isUnderWay reports whether no other step may begin.
func (r Record) isUnderWay() bool { return r.Phase == asked || r.Phase == watched }

// maxRecord bounds the file, in bytes.
const maxRecord = 16 << 10

// records is the file of the record.
type records struct{ dir string }

func (f records) file() string { return filepath.Join(f.dir, "record.json") }

// load returns the record; the zero value: there is none. A damaged one is an error.
func (f records) load() (r Record, err error) {
	text, err := disk.ReadLimited(f.file(), maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return Record{}, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return Record{}, fmt.Errorf("read the record of the agent's update, %s: %w", f.file(), err)
	}
	return r, nil
}

// lockWait is how long the other part may hold the lock: it writes one small file meanwhile.
const lockWait = 10 * time.Second

// change changes the record, unless it is another by now; the zero value as the next one removes it. done reports
// whether it was changed.
func (f records) change(from, to Record) (done bool, err error) {
	if err := disk.MakePrivate(f.dir); err != nil {
		return false, fmt.Errorf("write the record of the agent's update: %w", err)
	}
	//nolint:gosec // below the state folder
	lock, err := os.OpenFile(filepath.Join(f.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, fmt.Errorf("write the record of the agent's update: %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := filelock.Lock(lock, lockWait, "update of the agent"); err != nil {
		return false, fmt.Errorf("write the record of the agent's update: %w", err)
	}
	now, err := f.load()
	if err != nil || now != from {
		return false, err
	}
	if to == (Record{}) {
		err = os.Remove(f.file())
		return err == nil, err
	}
	text, err := json.Marshal(to)
	if err == nil {
		err = disk.ReplaceFile(f.file(), text)
	}
	return err == nil, err
}

// inRepository returns an image of the repository that runs, in the version that a release names; empty: it names none.
func inRepository(running, named string) string {
	repository, _ := splitImage(running)
	_, version := splitImage(named)
	if version == "" {
		return ""
	}
	return repository + version
}

// splitImage splits the name of an image into its repository and its version: :TAG, @DIGEST, or both.
func splitImage(image string) (repository, version string) {
	repository, digest, hasDigest := strings.Cut(image, "@")
	if colon := strings.LastIndexByte(repository, ':'); colon > strings.LastIndexByte(repository, '/') {
		repository, version = repository[:colon], repository[colon:]
	}
	if hasDigest {
		version += "@" + digest
	}
	return repository, version
}
