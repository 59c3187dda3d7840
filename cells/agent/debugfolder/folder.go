package debugfolder

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/debug"
)

// Bounds of the folder.
const (
	MaxOpen   = 8                   // requests that wait for the owner
	MaxKept   = 64                  // requests in all, after which the oldest that are over give way
	Retention = 90 * 24 * time.Hour // of requests that are over, and of their records

	maxFile = 256 << 10 // bytes, of each file but the record
)

// FolderName is the folder's name in a state folder.
const FolderName = "debug"

// Files of a request.
const (
	requestFile    = "request.json"
	permissionFile = "permission.json"
	deniedFile     = "denied.json"
	begunFile      = "begun.json"
	stopFile       = "stop"
	sealFile       = "seal.json"
	recordFile     = "record.cast"
	sentFile       = "sent"
	replacedFile   = "replaced"
)

// Folder is the path of the folder of one agent.
type Folder string

// Of returns the folder in a state folder. It may not be there yet.
func Of(stateDir string) Folder { return Folder(filepath.Join(stateDir, FolderName)) }

// received is the content of request.json.
type received struct {
	Signed   debug.SignedRequest `json:"signed"`
	Vouched  string              `json:"vouched,omitempty"`
	Received time.Time           `json:"received"`
}

// Denial is the owner's refusal.
type Denial struct {
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// Begun says when the only session of a request began.
type Begun struct {
	Moment debug.Moment `json:"moment"`
	At     time.Time    `json:"at"`
}

// Entry is all that is known of a request.
type Entry struct {
	ID         string
	Signed     debug.SignedRequest
	Request    debug.Request
	Vouched    string    // whose key it is by the word of release signers; empty: they were not asked
	Received   time.Time // by the machine's clock
	Permission *debug.Permission
	Denied     *Denial
	Begun      *Begun
	Stopped    bool              // the session had to end: see MustEnd
	Replaced   bool              // another release began after the session: what it changed is kept no longer
	Seal       *debug.SignedSeal // nil: no session ended
}

// State is how far a request is.
type State string

const (
	Open      State = "open"      // it waits for the owner
	Expired   State = "expired"   // it was not answered in time, or its permission was not used in time
	Denied    State = "denied"    // the owner refused
	Permitted State = "permitted" // a session may begin
	Live      State = "live"      // its session lasts
	Ended     State = "ended"     // its session is over
)

// State returns how far the request is. moment is now by the machine's monotonic clock, and now by the cell's clock.
func (e *Entry) State(moment debug.Moment, now time.Time) State {
	switch {
	case e.Seal != nil:
		return Ended
	case e.Begun != nil && e.Permission != nil && e.Permission.Left(e.Begun.Moment, moment) > 0:
		return Live
	case e.Begun != nil:
		return Ended
	case e.Denied != nil:
		return Denied
	case e.Permission != nil && e.Permission.CheckBegin(moment) != nil:
		return Expired
	case e.Permission != nil:
		return Permitted
	case !now.Before(e.Request.Expires):
		return Expired
	}
	return Open
}

var requestID = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9a-f]{32}$`) })

func (f Folder) path(id string, name ...string) string {
	return filepath.Join(slices.Concat([]string{string(f), id}, name)...)
}

// RecordPath returns the path of the record of a request's session.
func (f Folder) RecordPath(id string) string { return f.path(id, recordFile) }

// HashRecord returns the hash and the length of the record of a request's session, as it is in the folder.
func (f Folder) HashRecord(id string) (hash string, length int64, err error) {
	file, err := os.Open(f.RecordPath(id))
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = file.Close() }()
	return debug.HashRecord(file)
}

// List returns all requests, the oldest first. What can't be read is left out, and is the error, beside the others.
func (f Folder) List() ([]Entry, error) {
	ids, err := f.ids()
	if err != nil {
		return nil, err
	}
	var all []Entry
	var faults []error
	for _, id := range ids {
		switch e, err := f.Load(id); {
		case err == nil:
			all = append(all, e)
		case !errors.Is(err, ErrNotFound): // gone meanwhile, or never finished
			faults = append(faults, err)
		}
	}
	slices.SortStableFunc(all, func(a, b Entry) int {
		return cmp.Or(a.Received.Compare(b.Received), strings.Compare(a.ID, b.ID))
	})
	return all, errors.Join(faults...)
}

func (f Folder) ids() ([]string, error) {
	entries, err := os.ReadDir(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read requests for debug access: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if e.IsDir() && requestID().MatchString(e.Name()) {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}

// ErrNotFound means that there is no such request.
var ErrNotFound = errors.New("there is no such request: see sluice cell debug list")

// Find returns the request whose ID begins with prefix. Without one, it returns the newest for which wanted holds; nil:
// a prefix is required.
func (f Folder) Find(prefix string, wanted func(*Entry) bool) (Entry, error) {
	if prefix == "" && wanted == nil {
		return Entry{}, ErrNotFound
	}
	all, err := f.List()
	if err != nil && len(all) == 0 {
		return Entry{}, err
	}
	var found []Entry
	for _, e := range all {
		if prefix != "" && strings.HasPrefix(e.ID, prefix) || prefix == "" && wanted(&e) {
			found = append(found, e)
		}
	}
	switch {
	case len(found) == 0:
		return Entry{}, ErrNotFound
	case prefix != "" && len(found) > 1:
		return Entry{}, fmt.Errorf("%d requests begin with %s: name more of the ID", len(found), prefix)
	}
	return found[len(found)-1], nil
}

// Load returns one request, by its whole ID. It opens the request once more: the files may have been changed.
func (f Folder) Load(id string) (Entry, error) {
	if !requestID().MatchString(id) {
		return Entry{}, ErrNotFound
	}
	e, err := f.load(id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("read request %s for debug access: %w", id, err)
	}
	return e, err
}

func (f Folder) load(id string) (Entry, error) {
	e := Entry{ID: id}
	r, err := readJSON[received](f.path(id, requestFile))
	if err != nil {
		return e, err
	}
	if r == nil {
		return e, ErrNotFound
	}
	e.Signed, e.Vouched, e.Received = r.Signed, r.Vouched, r.Received
	if e.Request, err = e.Signed.Open(); err != nil {
		return e, err
	}
	if e.Signed.ID() != id {
		return e, errors.New("it is another request")
	}
	if e.Permission, err = readJSON[debug.Permission](f.path(id, permissionFile)); err != nil {
		return e, err
	}
	if e.Permission != nil && (e.Permission.Request != id || e.Permission.Document != e.Signed.Hash()) {
		return e, errors.New("the permission is for another request")
	}
	if e.Denied, err = readJSON[Denial](f.path(id, deniedFile)); err != nil {
		return e, err
	}
	if e.Begun, err = readJSON[Begun](f.path(id, begunFile)); err != nil {
		return e, err
	}
	if e.Seal, err = readJSON[debug.SignedSeal](f.path(id, sealFile)); err != nil {
		return e, err
	}
	if e.Stopped, err = exists(f.path(id, stopFile)); err != nil {
		return e, err
	}
	e.Replaced, err = exists(f.path(id, replacedFile))
	return e, err
}

// readJSON returns a file's content; nil: there is none.
func readJSON[T any](name string) (*T, error) {
	text, err := disk.ReadLimited(name, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v := new(T)
	if err := json.Unmarshal(text, v); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return v, nil
}

// writeJSON writes a file, all of it or nothing, and returns once it is durable. The owner and the agent may be
// different users: both read what the other wrote, in a folder that no one else enters.
func writeJSON(name string, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return disk.ReplaceFileMode(name, 0o644, text)
}

func exists(name string) (bool, error) {
	_, err := os.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
