// Package signatures says whether a cell may render a release: only if enough of the release signers signed it for the
// cell's channel. It starts from a root of trust that the cell's owner pinned, and keeps on disk what it verified. So a
// control plane that was taken over can withhold releases, and can't make up any.
//
// What always holds: a pinned root changes only along roots that its signers signed, or by the owner; versions never go
// back, whatever happens to the process or to one of the two copies on disk; a release passes at one instant, against
// files that are all in force at it (T1 to T6 in docs/trust.md). What passed once stays so: heals and rollbacks ask
// nobody. Package channels/trust decides; this package adds the disk. It reads no clock and opens no connection.
//
// A Keeper may be used by several goroutines at once, but a folder by one Keeper only.
package signatures

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/releases"
)

// files are the two copies of what a cell believes, in the order in which they are written.
var files = [...]string{"trust-a.json", "trust-b.json"}

// FileNames returns the names of this package's files in a cell's folder.
func FileNames() (names []string) {
	for _, name := range files {
		names = append(names, name, name+before)
	}
	return names
}

// before ends the names of copies that another root of trust replaced.
const before = ".before"

const (
	maxFile   = 8 << 20 // bytes of a copy
	maxPassed = 8
)

// Kept is what a cell believes of signers, as its folder has it.
type Kept struct {
	Number  int64           `json:"number"`            // of the write: the greater one of two copies is the newer
	Pin     releases.Digest `json:"pin"`               // of the root of trust, as it was given
	Channel string          `json:"channel,omitempty"` // that the cell follows; empty: not known yet
	State   trust.State     `json:"state"`
	Passed  []Passed        `json:"passed,omitempty"` // newest last

	Verified time.Time `json:"verified,omitzero"` // when a verification passed last
	Until    time.Time `json:"until,omitzero"`    // what was verified then expires then
	Flags    bool      `json:"flags,omitempty"`   // the signers' policy says that flags are signed
}

// Passed is a release that the cell may render.
type Passed struct {
	Channel string          `json:"channel"`
	Release string          `json:"release"`
	Digest  releases.Digest `json:"digest"`
	At      time.Time       `json:"at"`
}

// Options say where a root of trust comes from. Without one, and without one on disk, nothing is verified.
type Options struct {
	Dir string
	// Root is the SHA-256 of the root's file; empty: none was given. A token's pins once, for its sender is distrusted.
	Root releases.Digest
	// FromOwner says that Root came from the owner: another one than was pinned then begins anew.
	FromOwner bool
	// Channel is the one that the owner lets the cell follow; empty: that of the first release.
	Channel string
	// OnTestPoint is called after each durable write; tests end the process there. nil in any other program.
	OnTestPoint func(point string)
}

// Keeper keeps what a cell believes of signers.
type Keeper struct {
	dir string

	mu       sync.Mutex
	kept     Kept
	damaged  error // why what is on disk can't be used; nil: it can
	verifier trust.Verifier

	onTestPoint func(point string) // as in Options
}

// ErrNotPicked is the cause where signers allow a release and the channel's signed head does not lead to it.
var ErrNotPicked = errors.New("the control plane's signed head of the channel does not lead there")

// Open reads what the folder has, and pins a root. mended names the copy that was damaged, or older, and was replaced
// by the other; empty: none. Damage of both copies is no error here: nothing passes then.
func Open(o Options) (k *Keeper, mended string, err error) {
	k = &Keeper{dir: o.Dir, onTestPoint: o.OnTestPoint}
	kept, mended, err := load(o.Dir)
	if damaged := new(DamagedError); errors.As(err, &damaged) {
		k.damaged = damaged
		return k, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	if kept != nil {
		k.kept = *kept
	}
	next := k.kept
	if o.Root != "" && o.Root != next.Pin && (next.Pin == "" || o.FromOwner) {
		if _, err := releases.ParseDigest(string(o.Root)); err != nil {
			return nil, "", fmt.Errorf("the root of trust: %w", err)
		}
		if err := k.putAside(); err != nil {
			return nil, "", err
		}
		next = Kept{Pin: o.Root, Number: next.Number}
	}
	if o.Channel != "" && next.Pin != "" {
		next.Channel = o.Channel
	}
	if next.Pin != k.kept.Pin || next.Channel != k.kept.Channel {
		return k, mended, k.save(next)
	}
	if mended != "" && k.save(next) != nil {
		mended = "" // the disk may be full; the next write tries again, and what the other copy says counts
	}
	return k, mended, nil
}

// putAside keeps what was believed under another root under other names, for people.
func (k *Keeper) putAside() error {
	for _, name := range files {
		at := filepath.Join(k.dir, name)
		if err := os.Rename(at, at+before); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("begin with another root of trust: %w", err)
		}
	}
	return disk.SyncDir(k.dir)
}

// DamagedError says that neither copy can be read.
type DamagedError struct{ cause error }

func (e *DamagedError) Error() string {
	return fmt.Sprintf("what this cell knows of release signers can't be read, so nothing new begins: move %s and %s "+
		"away, and start the agent with --trust-root and the digest of the newest root: %v", files[0], files[1], e.cause)
}

func (e *DamagedError) Unwrap() error { return e.cause }

// Load reads what a cell believes, for its owner; nil: it has no root of trust. It changes nothing.
func Load(dir string) (*Kept, error) {
	kept, _, err := load(dir)
	return kept, err
}

// load returns the newer of the copies that can be read, and which one the other has to replace.
func load(dir string) (newest *Kept, behind string, err error) {
	var read [len(files)]*Kept
	var faults []error
	for i, name := range files {
		if read[i], err = readCopy(filepath.Join(dir, name)); err != nil {
			faults = append(faults, err)
		}
	}
	a, b := read[0], read[1]
	switch {
	case a == nil && b == nil && len(faults) == 0:
		return nil, "", nil
	case a == nil && b == nil:
		return nil, "", &DamagedError{errors.Join(faults...)}
	case b == nil, a != nil && a.Number > b.Number:
		return a, files[1], nil
	case a == nil, b.Number > a.Number:
		return b, files[0], nil
	}
	return a, "", nil
}

// readCopy reads a copy; nil: there is none.
func readCopy(name string) (*Kept, error) {
	text, err := disk.ReadChecksummed(name, maxFile)
	if err != nil || text == nil {
		return nil, err
	}
	kept := new(Kept)
	if err := json.Unmarshal(text, kept); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if kept.Pin == "" {
		return nil, fmt.Errorf("read %s: it names no root of trust", name)
	}
	return kept, nil
}

// save makes next durable, in one copy after the other, and only then counts with it.
func (k *Keeper) save(next Kept) error {
	next.Number++
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := disk.WriteCopies(k.dir, files[:], text, k.onTestPoint); err != nil {
		return &cells.UnavailableError{Cause: fmt.Errorf("keep what was verified of release signers: %w", err)}
	}
	k.kept = next
	return nil
}

// Pinned reports whether the cell has a root of trust, and takes only what its signers signed.
func (k *Keeper) Pinned() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.damaged != nil || k.kept.Pin != ""
}

// Kept returns what the cell believes.
func (k *Keeper) Kept() Kept {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept
}

// Report says what the cell verifies, as its reports have it; nil: nothing.
func (k *Keeper) Report() *cells.SignaturesReport {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.damaged != nil {
		return &cells.SignaturesReport{Damaged: true}
	}
	if k.kept.Pin == "" {
		return nil
	}
	return &cells.SignaturesReport{Root: k.kept.State.RootVersion(), Verified: k.kept.Verified, Until: k.kept.Until,
		Flags: k.kept.Flags}
}

// Root returns the number of the newest root that the cell has, 0: none yet, and the digest of the one that was pinned.
func (k *Keeper) Root() (newest int64, pin releases.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept.State.RootVersion(), k.kept.Pin
}

// HasPassed reports whether a release passed before. It passed for the channel of then; under way, it may be offered as
// the head of another one, and its bytes are the same.
func (k *Keeper) HasPassed(a *cells.Assignment) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.damaged == nil && slices.ContainsFunc(k.kept.Passed, func(p Passed) bool {
		return p.Release == a.Release && p.Digest == a.Digest
	})
}

// NewestPassed returns the release that passed last; empty: none did, or that is not known.
func (k *Keeper) NewestPassed() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	if n := len(k.kept.Passed); n > 0 {
		return k.kept.Passed[n-1].Release
	}
	return ""
}

// Admit verifies what the control plane told, at an instant, and then the release of an assignment. running is the
// release that the cell runs; empty: none. nil: the release may be rendered, and that is durable. What was verified is
// kept in any case.
func (k *Keeper) Admit(a *cells.Assignment, running string, b trust.Bundle, now time.Time) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	trusted, next, err := k.verify(a.Channel, "a release", b, now)
	if trusted != nil {
		err = check(trusted, a, running)
	}
	if err != nil {
		return errors.Join(err, k.saveChanged(next))
	}
	next.Channel = a.Channel
	p := Passed{Channel: a.Channel, Release: a.Release, Digest: a.Digest, At: now.UTC().Truncate(time.Second)}
	next.Passed = slices.DeleteFunc(slices.Clone(next.Passed), func(old Passed) bool {
		return old.Channel == p.Channel && old.Release == p.Release && old.Digest == p.Digest
	})
	next.Passed = append(next.Passed, p)
	next.Passed = next.Passed[max(0, len(next.Passed)-maxPassed):]
	return k.save(next)
}

// FlagParts verifies what the control plane told, at an instant, and returns of which parts bundles of flags may
// consist in a channel: the one of the first release that passed, or that the owner named. signed is false where the
// signers' policy leaves flags unsigned. What was verified is kept in any case.
func (k *Keeper) FlagParts(channel string, b trust.Bundle, now time.Time) (parts []trust.Part, signed bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.damaged == nil && k.kept.Channel == "" {
		return nil, true, &cells.UnavailableError{Cause: errors.New("no release was verified yet, so this cell knows " +
			"no channel whose flags it may take")}
	}
	trusted, next, err := k.verify(channel, "flags", b, now)
	if err := errors.Join(err, k.saveChanged(next)); err != nil {
		return nil, true, err
	}
	return trusted.Parts, trusted.FlagsSigned, trusted.FlagsFault
}

// Support verifies what the control plane told, at an instant, and returns whose keys may ask for debug access. What
// was verified is kept in any case.
func (k *Keeper) Support(b trust.Bundle, now time.Time) (trust.Support, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	state, err := k.pinnedState(b)
	if err != nil {
		return nil, err
	}
	policy, state, err := k.verifier.VerifyPolicy(state, b, k.kept.Channel, now)
	next := k.kept
	next.State = forget(state, k.kept.Channel)
	if err := errors.Join(err, k.saveChanged(next)); err != nil {
		return nil, err
	}
	return policy.Support, nil
}

// pinnedState returns what the cell believes, from the root that was pinned on. The caller holds mu.
func (k *Keeper) pinnedState(b trust.Bundle) (trust.State, error) {
	state := k.kept.State
	if k.damaged != nil || state.Root != nil {
		return state, k.damaged
	}
	i := slices.IndexFunc(b.Roots, func(data []byte) bool { return releases.DigestBytes(data) == k.kept.Pin })
	if i < 0 {
		return state, fmt.Errorf("the control plane has no root with digest %s, which this cell trusts", k.kept.Pin)
	}
	state.Root = b.Roots[i]
	return state, nil
}

// verify verifies what the control plane told, for a channel. It returns what is to be kept even with an error; trusted
// is nil then. The caller holds mu.
func (k *Keeper) verify(channel, what string, b trust.Bundle, now time.Time) (*trust.Trusted, Kept, error) {
	if is := k.kept.Channel; k.damaged == nil && is != "" && channel != is {
		return nil, k.kept, fmt.Errorf("this cell follows channel %s, and the control plane sends %s of channel %s: if "+
			"its owner agrees, sluice agent --trust-channel %s", is, what, channel, channel)
	}
	state, err := k.pinnedState(b)
	if err != nil {
		return nil, k.kept, err
	}
	trusted, state, err := k.verifier.Verify(state, b, channel, now)
	next := k.kept
	next.State = forget(state, channel)
	if err == nil {
		next.Verified, next.Until, next.Flags = now.UTC().Truncate(time.Second), trusted.Until, trusted.FlagsSigned
	}
	return trusted, next, err
}

// saveChanged is save where there is anything new.
func (k *Keeper) saveChanged(next Kept) error {
	if next.State.Equal(k.kept.State) {
		k.kept = next // the times of the verification can wait for the disk
		return nil
	}
	return k.save(next)
}

// forget leaves out heads of other channels: the cell follows one.
func forget(s trust.State, channel string) trust.State {
	roles := map[string][]byte{}
	for _, role := range []string{trust.RoleTargets, trust.RoleReleases, trust.RoleFlags,
		trust.ChannelRole(channel)} {

		if data, ok := s.Roles[role]; ok {
			roles[role] = data
		}
	}
	s.Roles = roles
	return s
}

// check returns why verified files do not allow an assignment.
func check(t *trust.Trusted, a *cells.Assignment, running string) error {
	v, err := releases.ParseVersion(a.Release)
	if err != nil {
		return fmt.Errorf("the control plane names release %.100q: %w", a.Release, err)
	}
	if err := t.Check(v, a.Digest); err != nil {
		return err
	}
	from, _ := releases.ParseVersion(running) // zero: nothing runs, or a release from before releases had versions
	if !t.LeadsTo(v, a.Digest, from) {
		return fmt.Errorf("%s is signed, and %w: it is %s", a.Release, ErrNotPicked, t.Release)
	}
	return nil
}
