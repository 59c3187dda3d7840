package agent

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/cells/agent/signatures"
	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/flags"
	"github.com/sluice-cd/sluice/flags/signed"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases"
)

// openSignatures opens what the cell believes of release signers. The owner's root goes before the token's.
func (a *Agent) openSignatures() (*signatures.Keeper, error) {
	o := signatures.Options{Dir: a.options.StateDir, Root: a.options.TrustRoot, FromOwner: a.options.TrustRoot != "",
		Channel: a.options.TrustChannel, OnTestPoint: a.testPoint}
	if t := a.options.Join; o.Root == "" && t != nil {
		o.Root = releases.Digest(t.Root)
	}
	k, mended, err := signatures.Open(o)
	if err != nil {
		return nil, err
	}
	if mended != "" {
		a.options.Log.Warn().Str("file", mended).Msg("a copy of what the cell knows of release signers was damaged or " +
			"behind: the other copy replaced it")
	}
	if is := k.Kept(); is.Pin != "" {
		a.options.Log.Info().Str("root", string(is.Pin)).Int64("version", is.State.RootVersion()).
			Str("channel", is.Channel).Msg("releases are verified: only what signers signed begins")
	} else {
		a.options.Log.Info().Msg("releases are unsigned for this cell: it has no root of trust (docs/trust.md)")
	}
	return k, nil
}

// askSigned requests the signers' files, and has them verified at one instant (T6). There is one request at a time, for
// files that came earlier are refused after newer ones; ctx bounds the wait for others' too.
func (l *loop) askSigned(ctx context.Context, verify func(told trust.Bundle, now time.Time) error) error {
	select {
	case l.verifying <- struct{}{}:
		defer func() { <-l.verifying }()
	case <-ctx.Done():
		return &cells.UnavailableError{Cause: context.Cause(ctx)}
	}
	root, pin := l.signatures.Root()
	told, err := l.agent.client.FetchTrust(ctx, root, pin)
	if err != nil {
		return &cells.UnavailableError{Cause: err}
	}
	return verify(told, l.agent.clock.Latest())
}

// verifyRelease returns why a step's release may not be rendered. What the cell ran before needs no signature again:
// it heals, and goes back, though files expired or the control plane is not there. dirty says that the target may hold
// something other than lastGood.
func (l *loop) verifyRelease(ctx context.Context, s step, lastGood *cells.Assignment, dirty bool) error {
	k := l.signatures
	if !k.Pinned() || s.Rollback || s.Task == taskHeal || s.Task == taskApply && (k.HasPassed(s.Assignment) ||
		lastGood != nil && lastGood.SameContent(*s.Assignment)) {
		return nil
	}
	err := l.askSigned(ctx, func(told trust.Bundle, now time.Time) error {
		return k.Admit(s.Assignment, runningRelease(k, lastGood, dirty), told, now)
	})
	if err == nil {
		return nil
	}
	unavailable, damaged := new(cells.UnavailableError), new(signatures.DamagedError)
	late := errors.Is(err, trust.ErrExpired) || errors.Is(err, trust.ErrMissing) ||
		errors.Is(err, signatures.ErrNotPicked) // newer files may come
	if !late && !errors.As(err, &unavailable) && !errors.As(err, &damaged) {
		err = &content.RefusedError{Cause: err} // an alarm
	}
	return &cells.UnavailableError{Cause: err}
}

// verifyFlags returns why a bundle of flags may not come into force: it has a part that signers did not sign. Where
// they leave flags unsigned, all may.
func (l *loop) verifyFlags(ctx context.Context, b *flags.Bundle, labels map[string]string) error {
	k := l.signatures
	if !k.Pinned() {
		return nil
	}
	var parts []trust.Part
	are := false
	err := l.askSigned(ctx, func(told trust.Bundle, now time.Time) (err error) {
		parts, are, err = k.FlagParts(b.Channel, told, now)
		return err
	})
	if err != nil || !are {
		return err
	}
	list := make([]signed.Part, len(parts))
	for i, p := range parts {
		list[i] = signed.Part(p)
	}
	return signed.Check(list, b, signed.Cell{Name: l.agent.options.Cell, Channel: k.Kept().Channel, Labels: labels})
}

// runningRelease returns the release below which only the channel's head leads; empty: there is none. While the target
// may hold more than lastGood, that is the newest release that was let through, or lastGood's if that is later.
func runningRelease(k *signatures.Keeper, lastGood *cells.Assignment, dirty bool) string {
	if lastGood == nil {
		return k.NewestPassed()
	}
	if !dirty {
		return lastGood.Release
	}
	newest, err := releases.ParseVersion(k.NewestPassed())
	if good, fault := releases.ParseVersion(lastGood.Release); err != nil || fault == nil && newest.Less(good) {
		return lastGood.Release
	}
	return newest.String()
}

// verifyTries is how often a verification is tried again while the target may be half-written: newer files may come.
const verifyTries = 5

// putOffUnverified keeps an offer that can't be verified from leaving the target half-written: what was good last comes
// back first, and the offer begins after that. It reports whether it does so. The offer superseded what was under way,
// and the control plane's word alone must not stop the cell in the middle (T4). No other offer keeps LastGood from
// coming back either, unless that does not work.
func putOffUnverified(s *state, why string) bool {
	if !s.Dirty || s.LastGood == nil || s.NoReturn || s.retries < verifyTries {
		return false
	}
	o := s.Attempt.Assignment
	s.recordEvent("waiting", &o, "it can't be verified, so "+s.LastGood.Release+" comes back first: "+why)
	if s.Offer == nil { // else a newer one waits
		s.Offer = &o
	}
	s.problem = words.Clip(o.Release+" can't be verified: "+why, maxReason)
	s.restoring, s.retries, s.retryAt = true, 0, time.Time{}
	rollBack(s)
	return true
}
