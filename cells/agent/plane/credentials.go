package plane

import (
	"bytes"
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
	maxFormer       = 16 // former keys
	maxNames        = 16 // former names
	// formerPeriod is how long a former key is kept at least: the time in which a takeover should be noticed.
	formerPeriod = 30 * 24 * time.Hour
	// newKeyPeriod is how long after a registration or a rotation some replica may not know the new key.
	newKeyPeriod = time.Minute
	// replicaDelay is the time in which a replica normally learns of a key.
	replicaDelay = 5 * time.Second
)

// identityRecord is the content of identity.json: the cell's key, and the address and pins of its control plane. Only
// the owner can read the file. It is replaced as a whole, and durable before anything depends on it, so that a crash at
// any point leaves a key that works.
type identityRecord struct {
	Cell    string   `json:"cell"`
	Names   []string `json:"names,omitempty"`   // that the vendor gave it before, at most maxNames
	Address string   `json:"address,omitempty"` // HOST:PORT of the control plane
	Pins    []string `json:"pins,omitempty"`    // of the control plane's keys (R29)
	// Serial is that of the signed set that Pins are from; 0: they are the token's.
	Serial int64 `json:"serial,omitempty"`
	// Key is the seed of the Ed25519 key under which the cell is registered; empty: it never was.
	Key []byte `json:"key,omitempty"`
	// Next replaces Key once the control plane knows Next and refuses Key. Until that is certain, either may work.
	Next []byte `json:"next,omitempty"`
	// Former holds keys that were the cell's or were presented, oldest first, at most maxFormer. A control plane that
	// was taken over may have accepted keys of which the vendor's own knows nothing: then a former one counts (R29).
	Former []formerKey `json:"former,omitempty"`
	Token  string      `json:"token,omitempty"` // hash of the token that registered Key
	Order  *Order      `json:"order,omitempty"` // as of that registration; nil: an older version registered
	Since  time.Time   `json:"since,omitzero"`  // when Key was adopted, by the cell's clock
	// Registration is a registration that was begun and whose outcome is not known (R28).
	Registration *registration `json:"joining,omitempty"`
}

// formerKey is the seed of a key, and when it was replaced, by the cell's clock.
type formerKey struct {
	Key   []byte    `json:"key"`
	Until time.Time `json:"until"`
}

// retire adds a key to the former ones.
func (s *identityRecord) retire(seed []byte) {
	s.Former = slices.DeleteFunc(slices.Clone(s.Former), func(f formerKey) bool { return bytes.Equal(f.Key, seed) })
	if len(seed) > 0 {
		s.Former = append(s.Former, formerKey{seed, time.Now()})
	}
	s.Former = s.Former[max(0, len(s.Former)-maxFormer):]
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

// identityCopy is a second copy of identity.json, for a disk that damages one of the two.
func identityCopy(dir string) string { return filepath.Join(dir, "identity.copy.json") }

// DamagedIdentityError says that a cell's key can't be read: neither identity.json nor its copy is whole.
type DamagedIdentityError struct{ File string }

func (e *DamagedIdentityError) Error() string {
	return e.File + " is damaged: restore it, or ask the vendor for a new token (sluice cell add) and start the agent " +
		"with it; what runs keeps running"
}

// loadIdentity reads the identity of a state folder; zero: it has none. If identity.json is damaged, or is lost beside
// its copy, damaged is set, and the identity is that of the copy; if the copy is damaged too, it is zero.
func loadIdentity(dir string) (s identityRecord, damaged *DamagedIdentityError, err error) {
	s, err = readIdentity(identityFile(dir))
	if err != nil && !errors.As(err, &damaged) || s.Cell != "" {
		return s, nil, err
	}
	second, err := readIdentity(identityCopy(dir))
	if lost := new(DamagedIdentityError); second.Cell != "" || errors.As(err, &lost) {
		damaged = &DamagedIdentityError{identityFile(dir)}
	}
	return second, damaged, nil
}

// PublicKey returns the public part of the key in a cell's state folder; nil: it has none.
func PublicKey(dir string) (ed25519.PublicKey, error) {
	s, _, err := loadIdentity(dir)
	if err != nil || len(s.Key) != ed25519.SeedSize {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(s.Key).Public().(ed25519.PublicKey), nil //nolint:forcetypeassert // by its doc comment
}

// readIdentity reads a file with an identity; zero: there is none.
func readIdentity(name string) (identityRecord, error) {
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
	text, err := disk.ReadLimited(name, maxIdentityFile)
	if errors.Is(err, fs.ErrPermission) {
		return identityRecord{}, fmt.Errorf("read the cell's identity: %w", err)
	}
	var s identityRecord
	if err != nil || json.Unmarshal(text, &s) != nil || s.validate() != nil { // such an error might contain the key
		return identityRecord{}, &DamagedIdentityError{name}
	}
	return s, nil
}

func (s *identityRecord) validate() error {
	seeds, pins := [][]byte{s.Key, s.Next}, [][]string{s.Pins}
	if s.Registration != nil {
		seeds, pins = append(seeds, s.Registration.Key), append(pins, s.Registration.Pins)
	}
	for _, f := range s.Former {
		seeds = append(seeds, f.Key)
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

var pinPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^sha256:[0-9a-f]{64}$`) })

func validPins(pins []string) bool {
	return len(pins) > 0 && len(pins) <= maxPins &&
		!slices.ContainsFunc(pins, func(p string) bool { return !pinPattern().MatchString(p) })
}

// Credentials are the cell's identity on disk. They are safe for concurrent use.
type Credentials struct {
	dir string

	mu      sync.Mutex
	record  identityRecord        // replaced as a whole; its slices are immutable
	damaged *DamagedIdentityError // identity.json was, when it was read; nil: it was not
}

// LoadCredentials reads the credentials of a state folder and checks that cell and token, if given, match it. It writes
// nothing.
func LoadCredentials(stateDir, cell string, token *identity.Token) (*Credentials, error) {
	k := &Credentials{dir: stateDir}
	if stateDir != "" {
		var err error
		if k.record, k.damaged, err = loadIdentity(stateDir); err != nil {
			return nil, err
		}
	}
	stored := k.record.Cell
	if slices.Contains(k.record.Names, cell) { // as a unit file still has it
		cell = stored
	}
	switch t := token; {
	case t != nil && slices.Contains(k.record.Names, t.Cell) && k.record.Token == identity.HashSecret(t.Secret):
		// it was used before the cell was renamed
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

// Rename takes another name for the cell, durably: the control plane says that the cell's key is of that one.
func (k *Credentials) Rename(cell string) error {
	_, err := k.update(func(s *identityRecord) {
		s.Names = slices.DeleteFunc(append(slices.Clone(s.Names), s.Cell), func(n string) bool { return n == cell })
		s.Names = s.Names[max(0, len(s.Names)-maxNames):]
		s.Cell = cell
	})
	return err
}

// HadName reports whether the cell had a name before.
func (k *Credentials) HadName(cell string) bool { return slices.Contains(k.snapshot().Names, cell) }

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
	stored, damaged, err := loadIdentity(k.dir)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.damaged = damaged; stored.Cell != "" {
		k.record = stored
	}
	return nil
}

// Damaged returns what is wrong with the file of the key, which makes the cell one without a key; nil: nothing, or the
// copy was whole.
func (k *Credentials) Damaged() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.damaged == nil || len(k.record.Key) > 0 || k.record.Registration != nil {
		return nil
	}
	return k.damaged
}

// Mend writes a damaged identity.json anew from its copy, if that is whole, and puts the damaged one aside under the
// name that is returned. The caller has locked the state folder.
func (k *Credentials) Mend() (aside string, err error) {
	k.mu.Lock()
	mendable := k.damaged != nil && k.record.Cell != ""
	k.mu.Unlock()
	if !mendable || k.Damaged() != nil {
		return "", nil
	}
	if aside, err = k.putAsideDamaged(); err == nil {
		_, err = k.update(func(*identityRecord) {})
	}
	return aside, err
}

// putAsideDamaged makes room for a new identity.json.
func (k *Credentials) putAsideDamaged() (aside string, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.damaged == nil {
		return "", nil
	}
	aside, err = disk.PutAside(identityFile(k.dir), time.Now())
	if errors.Is(err, fs.ErrNotExist) {
		aside, err = "", nil
	}
	if err == nil {
		k.damaged = nil
	}
	return aside, err
}

func (k *Credentials) snapshot() identityRecord {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.record
}

// update makes f's change durable, then uses it.
func (k *Credentials) update(f func(*identityRecord)) (identityRecord, error) {
	if _, err := k.putAsideDamaged(); err != nil {
		return k.snapshot(), fmt.Errorf("write the cell's identity: %w", err)
	}
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
	_ = disk.ReplaceFile(identityCopy(k.dir), text) // the next change writes it again
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

// finishRegistration makes the registered key the cell's. The pins are the token's: those in the answer are only as
// good as the connection (R29).
func (k *Credentials) finishRegistration(answer identity.Joined) (identityRecord, error) {
	return k.update(func(s *identityRecord) {
		j := s.Registration
		s.retire(s.Key)
		s.Address, s.Pins, s.Serial, s.Key, s.Token, s.Since = j.Address, j.Pins, 0, j.Key, j.Token, time.Now()
		s.Order = &Order{Token: j.Token, Epoch: answer.Epoch, Sequence: answer.Sequence, Height: answer.Height}
		s.Next, s.Registration = nil, nil
	})
}

// prepareNextKey returns a record with a Next: the pending one, or a new one.
func (k *Credentials) prepareNextKey() (identityRecord, error) {
	switch s := k.snapshot(); {
	case len(s.Next) > 0:
		return s, nil
	case len(s.Former) >= maxFormer && time.Since(s.Former[0].Until) < formerPeriod:
		return s, errTooManyKeys
	}
	seed, err := newSeed()
	if err != nil {
		return identityRecord{}, err
	}
	return k.update(func(s *identityRecord) { s.Next = seed })
}

// errTooManyKeys says that another key would push out a former key that may be the one that the vendor knows.
var errTooManyKeys = fmt.Errorf("the cell made %d keys within %d days, and makes no other: ask the vendor whether the "+
	"control plane is sound", maxFormer, int(formerPeriod.Hours()/24))

// adoptKey makes a next or former key the cell's key. It is called once the control plane knows that key and refuses
// the present one, which becomes a former key.
func (k *Credentials) adoptKey(seed []byte) error {
	_, err := k.update(func(s *identityRecord) {
		s.retire(seed)
		s.Former = s.Former[:len(s.Former)-1]
		s.retire(s.Key)
		if bytes.Equal(seed, s.Next) {
			s.Next = nil
		}
		s.Key, s.Since = seed, time.Now()
	})
	return err
}

// withdrawNextKey makes Next a former key: it was refused, but another control plane may have accepted it.
func (k *Credentials) withdrawNextKey() error {
	_, err := k.update(func(s *identityRecord) {
		s.retire(s.Next)
		s.Next = nil
	})
	return err
}

func newSeed() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return key.Seed(), nil
}
