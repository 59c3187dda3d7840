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
	// newKeyPeriod is how long after a registration or a rotation some replica may not know the new key.
	newKeyPeriod = time.Minute
)

// identityRecord is the content of identity.json: the cell's key, and the address and pins of its control plane. Only
// the owner can read the file. It is replaced as a whole, and durable before anything depends on it, so that a crash at
// any point leaves a key that works.
type identityRecord struct {
	Cell    string   `json:"cell"`
	Address string   `json:"address,omitempty"` // HOST:PORT of the control plane
	Pins    []string `json:"pins,omitempty"`    // of the control plane's keys (R29)
	// Key is the seed of the Ed25519 key under which the cell is registered; empty: it never was.
	Key []byte `json:"key,omitempty"`
	// Next replaces Key once the control plane knows Next. Until that is certain, either may work.
	Next  []byte    `json:"next,omitempty"`
	Token string    `json:"token,omitempty"` // hash of the token that registered Key
	Order *Order    `json:"order,omitempty"` // as of that registration; nil: an older version registered
	Since time.Time `json:"since,omitzero"`  // when Key was adopted, by the cell's clock
	// Registration is a registration that was begun and whose outcome is not known (R28).
	Registration *registration `json:"joining,omitempty"`
}

// Order says where the order of assignments and flags began: at a registration. Token is the hash of its token.
type Order struct {
	Token    string `json:"token"`
	Epoch    int64  `json:"epoch,omitempty"`
	Sequence int64  `json:"sequence,omitempty"`
	Height   int64  `json:"height,omitempty"` // of flags
}

// registration holds the content of a token, without its secret, and the key made for the token.
type registration struct {
	Address string   `json:"address"`
	Pins    []string `json:"pins"`
	Token   string   `json:"token"`
	Key     []byte   `json:"key"`
}

func identityFile(dir string) string { return filepath.Join(dir, "identity.json") }

// loadIdentity reads the identity of a state folder; zero: it has none.
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
		return identityRecord{}, fmt.Errorf("%s can be read by other users, who could act as this cell: "+
			"chmod 600 the file, and ask the vendor for a new token if anyone may have read it", name)
	}
	if info.Size() > maxIdentityFile {
		return identityRecord{}, fmt.Errorf("read the cell's identity: %s is larger than %d bytes", name,
			maxIdentityFile)
	}
	text, err := os.ReadFile(name) //nolint:gosec // below the state folder
	if err != nil {
		return identityRecord{}, fmt.Errorf("read the cell's identity: %w", err)
	}
	var s identityRecord
	if err := json.Unmarshal(text, &s); err != nil || s.validate() != nil {
		// The error might contain the key.
		return identityRecord{}, fmt.Errorf(
			"%s is damaged: restore it, or remove it and ask the vendor for a new token", name)
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

func validPins(pins []string) bool {
	return len(pins) > 0 && len(pins) <= maxPins &&
		!slices.ContainsFunc(pins, func(p string) bool { return !pinPattern.MatchString(p) })
}

// Credentials are the cell's identity on disk. They are safe for concurrent use.
type Credentials struct {
	dir string

	mu     sync.Mutex
	record identityRecord // replaced as a whole; its slices are immutable
}

// LoadCredentials reads the credentials of a state folder and checks that cell and token, if given, match it. It writes
// nothing.
func LoadCredentials(stateDir, cell string, token *identity.Token) (*Credentials, error) {
	k := &Credentials{dir: stateDir}
	if stateDir != "" {
		var err error
		if k.record, err = loadIdentity(stateDir); err != nil {
			return nil, err
		}
	}
	stored := k.record.Cell
	switch t := token; {
	case t != nil && !validPins(t.Pins):
		return nil, identity.ErrToken
	case t != nil && cell != "" && cell != t.Cell:
		return nil, fmt.Errorf("the token is for cell %s, not for %s", t.Cell, cell)
	case t != nil && stored != "" && stored != t.Cell:
		return nil, fmt.Errorf(
			"the token is for cell %s, and %s belongs to cell %s: give each cell a state folder of its own",
			t.Cell, stateDir, stored)
	case stored != "" && cell != "" && cell != stored:
		return nil, fmt.Errorf("the state folder %s belongs to cell %s, not to %s", stateDir, stored, cell)
	case t != nil:
		k.record.Cell = t.Cell
	}
	return k, nil
}

// Cell returns the cell that the credentials belong to; empty: none yet.
func (k *Credentials) Cell() string { return k.snapshot().Cell }

// Order returns where the order of assignments began; nil: the cell was never registered.
func (k *Credentials) Order() *Order {
	s := k.snapshot()
	if s.Order == nil && s.Token != "" {
		return &Order{Token: s.Token}
	}
	return s.Order
}

func (k *Credentials) reload() error {
	stored, err := loadIdentity(k.dir)
	if err != nil || stored.Cell == "" {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.record = stored
	return nil
}

func (k *Credentials) snapshot() identityRecord {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.record
}

// update makes f's change durable, then uses it.
func (k *Credentials) update(f func(*identityRecord)) (identityRecord, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := k.record
	f(&s)
	text, err := json.Marshal(s)
	if err != nil {
		return k.record, fmt.Errorf("write the cell's identity: %w", err)
	}
	if err := disk.ReplaceFile(identityFile(k.dir), text); err != nil { // mode 0600
		return k.record, fmt.Errorf("write the cell's identity: %w", err)
	}
	k.record = s
	return s, nil
}

// beginRegistration makes the key for a token and stores it before the token is sent. The same token finds the same
// key. Another token makes another key: it may have been requested because the old key leaked.
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

// finishRegistration makes the registered key the cell's. The pins are the token's: those in the answer are only as good
// as the connection (R29).
func (k *Credentials) finishRegistration(answer identity.Joined) (identityRecord, error) {
	return k.update(func(s *identityRecord) {
		j := s.Registration
		s.Address, s.Pins, s.Key, s.Token, s.Since = j.Address, j.Pins, j.Key, j.Token, time.Now()
		s.Order = &Order{Token: j.Token, Epoch: answer.Epoch, Sequence: answer.Sequence, Height: answer.Height}
		s.Next, s.Registration = nil, nil
	})
}

// prepareNextKey returns a record with a Next: the pending one, or a new one.
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

// adoptNextKey makes Next the key. It is called once the control plane knows Next.
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
