package plane

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cells/identity"
)

const (
	maxIdentityFile = 64 << 10 // bytes of identity.json
	maxPins         = 16
	// newKeyPeriod is how long after a registration or a new key some replica may not have heard of it.
	newKeyPeriod = time.Minute
)

// identityRecord is who this cell is to its control plane, and who that is: identity.json, for its owner's eyes only, replaced as
// a whole and durable before anything rests on it, so that a crash at any point leaves a key that works.
type identityRecord struct {
	Cell    string   `json:"cell"`
	Address string   `json:"address,omitempty"` // HOST:PORT of the control plane
	Pins    []string `json:"pins,omitempty"`    // of its keys (R29)
	// Key is the seed of the Ed25519 key under which the cell is registered; none: it never was.
	Key []byte `json:"key,omitempty"`
	// Next follows Key once the control plane has it. Whether it has is not known: both may work.
	Next  []byte    `json:"next,omitempty"`
	Token string    `json:"token,omitempty"` // hash of the one that Key was registered with
	Since time.Time `json:"since,omitzero"`  // of Key, by the cell's clock
	// Registration is a registration that was begun. Whether it got through is not known (R28).
	Registration *registration `json:"joining,omitempty"`
}

// registration is what one token says, without its secret, and the key that was made for it.
type registration struct {
	Address string   `json:"address"`
	Pins    []string `json:"pins"`
	Token   string   `json:"token"`
	Key     []byte   `json:"key"`
}

func identityFile(dir string) string { return filepath.Join(dir, "identity.json") }

// loadIdentity reads who a state folder belongs to; zero: nobody that has a key.
func loadIdentity(dir string) (identityRecord, error) {
	name := identityFile(dir)
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return identityRecord{}, nil
	}
	if err != nil {
		return identityRecord{}, fmt.Errorf("read the cell's identity: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return identityRecord{}, fmt.Errorf("%s can be read by others: whoever has it can speak as this cell; "+
			"chmod 600 it, and if somebody may have read it, ask the vendor for a new token", name)
	}
	if info.Size() > maxIdentityFile {
		return identityRecord{}, fmt.Errorf("read the cell's identity: %s is larger than %d bytes", name, maxIdentityFile)
	}
	text, err := os.ReadFile(name) //nolint:gosec // below the state folder
	if err != nil {
		return identityRecord{}, fmt.Errorf("read the cell's identity: %w", err)
	}
	var s identityRecord
	if err := json.Unmarshal(text, &s); err != nil || s.validate() != nil {
		return identityRecord{}, fmt.Errorf("%s is damaged: restore it, or remove it and ask the vendor for a new token", name) // err could tell of the key
	}
	return s, nil
}

func (s *identityRecord) validate() error {
	seeds, pins := [][]byte{s.Key, s.Next}, [][]string{s.Pins}
	if s.Registration != nil {
		seeds, pins = append(seeds, s.Registration.Key), append(pins, s.Registration.Pins)
	}
	for _, seed := range seeds {
		if len(seed) != 0 && len(seed) != ed25519.SeedSize {
			return errors.New("a key has the wrong length")
		}
	}
	for _, p := range pins {
		if len(p) > 0 && !validPins(p) {
			return errors.New("a pin is none")
		}
	}
	if !cells.ValidName(s.Cell) || len(s.Key) > 0 && (s.Address == "" || len(s.Pins) == 0) {
		return errors.New("something is missing")
	}
	return nil
}

var pinPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// validPins reports whether a set of pins can be one.
func validPins(pins []string) bool {
	return len(pins) > 0 && len(pins) <= maxPins && !slices.ContainsFunc(pins, func(p string) bool { return !pinPattern.MatchString(p) })
}

// Credentials are who a cell is to its control plane, and who that is, on disk. They are safe for concurrent use.
type Credentials struct {
	dir string

	mu     sync.Mutex
	record identityRecord // replaced whole; what its slices hold is never changed
}

// LoadCredentials finds out whose the state folder is, and whether that is meant: cell and token may be left out. Nothing is
// written.
func LoadCredentials(stateDir, cell string, token *identity.Token) (*Credentials, error) {
	k := &Credentials{dir: stateDir}
	if stateDir != "" {
		var err error
		if k.record, err = loadIdentity(stateDir); err != nil {
			return nil, err
		}
	}
	kept := k.record.Cell
	switch t := token; {
	case t != nil && !validPins(t.Pins):
		return nil, identity.ErrToken
	case t != nil && cell != "" && cell != t.Cell:
		return nil, fmt.Errorf("the token is for cell %s, not for %s", t.Cell, cell)
	case t != nil && kept != "" && kept != t.Cell:
		return nil, fmt.Errorf("the token is for cell %s, and %s belongs to cell %s: give each cell a state folder of its own", t.Cell, stateDir, kept)
	case kept != "" && cell != "" && cell != kept:
		return nil, fmt.Errorf("the state folder %s belongs to cell %s, not to %s", stateDir, kept, cell)
	case t != nil:
		k.record.Cell = t.Cell
	}
	return k, nil
}

// Cell is the one whose credentials they are; empty: nobody's so far.
func (k *Credentials) Cell() string { return k.snapshot().Cell }

func (k *Credentials) reload() error {
	kept, err := loadIdentity(k.dir)
	if err != nil || kept.Cell == "" {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.record = kept
	return nil
}

// snapshot is the record as it is.
func (k *Credentials) snapshot() identityRecord {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.record
}

// update makes what f does to the record durable, and then true.
func (k *Credentials) update(f func(*identityRecord)) (identityRecord, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.record
	f(&s)
	text, err := json.Marshal(s)
	if err != nil {
		return k.record, fmt.Errorf("write the cell's identity: %w", err)
	}
	if err := disk.ReplaceFile(identityFile(k.dir), text); err != nil { // it has mode 0600
		return k.record, fmt.Errorf("write the cell's identity: %w", err)
	}
	k.record = s
	return s, nil
}

// beginRegistration begins a registration: the key that is to be is on disk before any token is sent. The same token finds the
// same key; another one makes another, for whoever asked for it may have done so because the old one got around.
func (k *Credentials) beginRegistration(t *identity.Token) (identityRecord, error) {
	hash := identity.HashSecret(t.Secret)
	if s := k.snapshot(); s.Registration != nil && s.Registration.Token == hash {
		return s, nil
	}
	seed, err := newSeed()
	if err != nil {
		return identityRecord{}, err
	}
	return k.update(func(s *identityRecord) {
		s.Cell = t.Cell
		s.Registration = &registration{Address: t.Address, Pins: t.Pins, Token: hash, Key: seed}
	})
}

// finishRegistration: the control plane knows the key that was made.
func (k *Credentials) finishRegistration(pins []string) (identityRecord, error) {
	return k.update(func(s *identityRecord) {
		j := s.Registration
		s.Address, s.Pins, s.Key, s.Token, s.Since = j.Address, j.Pins, j.Key, j.Token, time.Now()
		if validPins(pins) {
			s.Pins = pins
		}
		s.Next, s.Registration = nil, nil
	})
}

// prepareNextKey is the record with a Next: the one that was made before, or a new one.
func (k *Credentials) prepareNextKey() (identityRecord, error) {
	if s := k.snapshot(); len(s.Next) > 0 {
		return s, nil
	}
	seed, err := newSeed()
	if err != nil {
		return identityRecord{}, err
	}
	return k.update(func(s *identityRecord) { s.Next = seed })
}

// adoptNextKey: the control plane knows Next.
func (k *Credentials) adoptNextKey() (identityRecord, error) {
	return k.update(func(s *identityRecord) { s.Key, s.Next, s.Since = s.Next, nil, time.Now() })
}

func newSeed() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key.Seed(), nil
}
