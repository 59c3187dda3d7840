package agent

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/agenttest"
	"github.com/sluice-cd/sluice/cells/agent/plane"
	"github.com/sluice-cd/sluice/releases"
)

// R2, R29: numbers that a control plane invents while it is taken over are refused, so that the vendor's count
// afterwards; a new token starts the order anew.
func TestR29OrderOutlivesATakeover(t *testing.T) {
	t.Parallel()
	at := func(epoch, sequence int64) *cells.Assignment {
		return &cells.Assignment{Channel: "c", Epoch: epoch, Sequence: sequence, Release: "1.0.0",
			Digest: releases.DigestBytes([]byte("1.0.0"))}
	}
	now := time.Now()
	for name, c := range map[string]struct {
		accepted *cells.Assignment // nil: nothing yet
		order    *plane.Order
		offer    *cells.Assignment
		want     bool
	}{
		"the greatest epoch":                 {at(1, 5), nil, at(math.MaxInt64, math.MaxInt64), false},
		"the greatest sequence":              {at(1, 5), nil, at(1, math.MaxInt64), false},
		"a far sequence in the next epoch":   {at(1, 5), nil, at(2, 6+cells.MaxLead), false},
		"just beyond":                        {at(1, 5), nil, at(1, 6+cells.MaxLead), false},
		"just within":                        {at(1, 5), nil, at(1, 5+cells.MaxLead), true},
		"an epoch within":                    {at(1, 5), nil, at(1+cells.MaxLead, 1), true},
		"the greatest, and nothing is known": {nil, nil, at(math.MaxInt64, 1), false},
		"far, and the registration said so":  {nil, &plane.Order{Epoch: 1, Sequence: 1 << 40}, at(1, 1<<40), true},
		"beyond what registration said": {nil, &plane.Order{Epoch: 1, Sequence: 7}, at(1, 8+cells.MaxLead),
			false},
		"negative numbers after the greatest": {at(math.MaxInt64, 1), nil, at(math.MinInt64, 1), false},
	} {
		s := state{journal: journal{Accepted: c.accepted, Order: c.order}}
		s.handleOffer(c.offer, now)
		if got := assignmentKey(s.Accepted) == assignmentKey(c.offer); got != c.want {
			t.Errorf("%s: accepted %v, want %v", name, got, c.want)
		}
		if refused := len(s.events) == 1 && s.events[0].Kind == "refused"; refused == c.want {
			t.Errorf("%s: events %+v", name, s.events)
		}
	}
	// An agent of an older version accepted the greatest numbers.
	s := state{journal: journal{Accepted: at(math.MaxInt64, math.MaxInt64), LastGood: at(math.MaxInt64, math.MaxInt64),
		Order: &plane.Order{Token: "old"}}}
	s.handleRegistration(plane.Order{Token: "old", Epoch: 1})
	if s.handleOffer(at(1, 2), now); s.Accepted.Epoch != math.MaxInt64 {
		t.Error("the same token started the order anew")
	}
	s.handleRegistration(plane.Order{Token: "new", Epoch: 2})
	if s.handleOffer(at(2, 2), now); assignmentKey(s.Accepted) != assignmentKey(at(2, 2)) {
		t.Errorf("after a new token it has accepted %+v", s.Accepted)
	}
}

// R29: the same, of the agent as a whole: a token that the owner passes lets a cell follow its vendor again, and its
// journal of an older version alone starts nothing anew.
func TestR29NewTokenStartsTheOrderAnew(t *testing.T) {
	t.Parallel()
	k := newKeyedControlPlane(t)
	s := k.newSettings(t, k.newToken(t, "acme"))
	far := k.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	far.Epoch, far.Sequence = cells.MaxLead, cells.MaxLead
	k.assign(far)
	c := start(t, s)
	k.await(t, "healthy", healthyOn(far))
	one := k.addRelease(t, "1.1.0", 2, agenttest.Release("1.1.0", nil))
	k.assign(one)
	k.await(t, "refused", func(cells.Report) bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, e := range k.events {
			if e.Kind == "refused" && strings.Contains(e.Detail, "older") {
				return true
			}
		}
		return false
	})
	c.stop()
	s.Join = k.newToken(t, "acme").String()
	start(t, s)
	k.await(t, "healthy on what the vendor says", healthyOn(one))
}

// R13, R29: content that names another version than the control plane did is refused before it touches the target, and
// an owner's pin holds the bytes.
func TestR29AnotherVersionInTheContentIsRefused(t *testing.T) {
	t.Parallel()
	p := newControlPlane(t)
	one := p.addRelease(t, "1.0.0", 1, agenttest.Release("1.0.0", nil))
	p.assign(one)
	start(t, newSettings(t, p))
	p.await(t, "healthy", healthyOn(one))
	liar := p.addRelease(t, "1.1.0", 2, agenttest.Release("9.9.9", nil))
	p.assign(liar)
	p.await(t, "refused, and still on the first", func(r cells.Report) bool {
		return len(r.Failures) == 1 && strings.Contains(r.Failures[0].Reason, "release.yaml of "+string(liar.Digest)+
			" says version 9.9.9") && r.State == cells.StateHealthy && r.Running.Digest == one.Digest
	})
}

// R18: a pin with a digest lets only these bytes begin; one of an older version goes on by name.
func TestR18PinHoldsADigest(t *testing.T) {
	t.Parallel()
	good, other := releases.DigestBytes([]byte("good")), releases.DigestBytes([]byte("other"))
	text := "apiVersion: sluice/v1\nkind: Owner\npin: 1.0.0\n"
	for name, c := range map[string]struct {
		text   string
		digest releases.Digest
		want   bool
	}{
		"by name, as before":    {text, other, true},
		"the pinned bytes":      {text + "pinDigest: " + string(good) + "\n", good, true},
		"others under its name": {text + "pinDigest: " + string(good) + "\n", other, false},
	} {
		o, err := parseOwner("owner.yaml", []byte(c.text))
		must(t, err)
		s := state{owner: ownerDecisions{decisions: o}}
		a := cells.Assignment{Channel: "c", Epoch: 1, Sequence: 1, Release: "1.0.0", Digest: c.digest}
		s.handleOffer(&a, time.Now())
		if (s.Accepted != nil) != c.want || (s.waitReason == "") != c.want {
			t.Errorf("%s: accepted %v, waits: %s", name, s.Accepted, s.waitReason)
		}
	}
	if _, err := parseOwner("owner.yaml", []byte(text+"pinDigest: sha256:12\n")); err == nil {
		t.Error("half a digest is accepted")
	}
}
