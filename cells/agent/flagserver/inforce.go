package flagserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// Bounds of the flags in a report, in bytes.
const (
	maxStates = 12 << 10
	maxFault  = 1 << 10
	maxID     = 128 // longer IDs are left out
)

// Report returns what is in force and durable; nil: no flags were received.
func (s *Server) Report() *cells.FlagsReport {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reported
}

// composeReport returns the report: of what was received, only what is durable. The caller holds mu.
func (s *Server) composeReport() *cells.FlagsReport {
	r := &cells.FlagsReport{Height: s.saved.Height, Orders: s.saved.OrdersDigest, Fault: s.faultText()}
	if s.saved.Bundle.Digest == "" && r.Fault == "" {
		return nil
	}
	if s.bundle != nil && s.saved.LastGood == s.bundle.digest {
		r.Bundle = s.bundle.digest
	}
	r.States = reportedStates(s.states)
	return r
}

// faultText returns why the flags received last are not in force, or "". The caller holds mu.
func (s *Server) faultText() string {
	var reasons []string
	if s.saveError != nil {
		reasons = append(reasons, s.saveError.Error())
	}
	for _, why := range []string{s.refusal, s.timeRefusal, s.missingReason, s.unshared} {
		if why != "" {
			reasons = append(reasons, why)
		}
	}
	return words.Clip(strings.ToValidUTF8(strings.Join(reasons, "; "), "?"), maxFault)
}

// reportedStates returns the states that a report has room for, in the order of sortByState.
func reportedStates(states map[string]flags.CellState) map[string]flags.CellState {
	if len(states) == 0 {
		return nil
	}
	ids := sortByState(states)
	reported, size := map[string]flags.CellState{}, 0
	for _, id := range ids[:min(len(ids), cells.MaxFlagStates)] {
		if len(id) > maxID || !utf8.ValidString(id) {
			continue
		}
		if size += len(id) + len(states[id]) + len(`"":"",`); size > maxStates {
			break
		}
		reported[id] = states[id]
	}
	return reported
}

// sortByState returns the IDs sorted by state: announcements that are simply on come last.
func sortByState(states map[string]flags.CellState) []string {
	order := []flags.CellState{flags.Killed, flags.Held, flags.Suspended, flags.Waiting, flags.Ramping, flags.Armed,
		flags.On}
	ids := make([]string, 0, len(states))
	for id := range states {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b string) int {
		if d := slices.Index(order, states[a]) - slices.Index(order, states[b]); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	return ids
}

// InForce is the flags in force in a cell, as the agent stores them for the cell's owner.
type InForce struct {
	Height        int64              `json:"height"`           // of the flags repository, as received last
	Bundle        releases.Digest    `json:"bundle,omitempty"` // in force; empty: none
	Release       string             `json:"release,omitempty"`
	Features      []string           `json:"features,omitempty"` // contained in every release that may be running
	Announcements []Announcement     `json:"announcements"`      // those that are simply on come last
	Killed        []flags.KilledFlag `json:"killed,omitempty"`   // by flag
	Held          []string           `json:"held,omitempty"`     // features held by the cell's owner
	Labels        map[string]string  `json:"labels,omitempty"`
	Fault         string             `json:"fault,omitempty"` // why the last flags are not in force; empty: they are
	// When this state began, in the control plane's time; zero: unknown
	Since time.Time `json:"since"`
}

// Announcement is the state of one announcement in a cell.
type Announcement struct {
	ID       string          `json:"id"`
	State    flags.CellState `json:"state"`
	At       time.Time       `json:"at,omitzero"` // zero: as soon as the release is there
	Features []string        `json:"features"`
}

// writeInForce stores what is in force for the owner. Announcements under embargo are left out before their time (R45).
// The caller holds mu.
func (s *Server) writeInForce() error {
	at, known := s.instant()
	v := InForce{
		Height: s.record.Height, Release: s.facts.Release, Features: s.facts.Features, Killed: s.record.Orders.Killed,
		Held: s.facts.Held, Labels: s.record.Labels, Fault: s.faultText(), Announcements: []Announcement{},
	}
	if s.bundle != nil {
		v.Bundle = s.bundle.digest
	}
	for _, id := range sortByState(s.states) {
		g := s.bundle.gates[id]
		if g.Embargo && at < g.At {
			continue
		}
		a := Announcement{ID: id, State: s.states[id], Features: g.Features}
		if g.At > 0 {
			a.At = time.Unix(g.At, 0).UTC()
		}
		v.Announcements = append(v.Announcements, a)
	}
	withoutSince, err := json.Marshal(v)
	if err != nil || bytes.Equal(withoutSince, s.writtenInForce) {
		return err
	}
	if known {
		v.Since = time.Unix(at, 0).UTC()
	}
	text, err := json.Marshal(v)
	if err == nil {
		err = disk.WriteChecksummed(inForceFile(s.stateDir), text)
	}
	if err == nil {
		s.writtenInForce = withoutSince
	}
	return err
}

func inForceFile(dir string) string { return filepath.Join(dir, "inforce.json") }

// LoadInForce reads the flags in force from a state folder; nil: none were received.
func LoadInForce(stateDir string) (*InForce, error) {
	text, err := disk.ReadChecksummed(inForceFile(stateDir), flags.MaxBundle)
	if err != nil || text == nil {
		return nil, err
	}
	var v InForce
	if err := json.Unmarshal(text, &v); err != nil {
		return nil, fmt.Errorf("read the flags in force: %w", err)
	}
	return &v, nil
}
