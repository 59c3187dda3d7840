package agent

import (
	"context"
	"errors"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/content"
	"github.com/sluice-cd/sluice/cells/agent/signatures"
	"github.com/sluice-cd/sluice/channels/trust"
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

// verifyRelease returns why a step's release may not be rendered. What the cell ran before needs no signature again:
// it heals, and goes back, though files expired or the control plane is not there.
func (l *loop) verifyRelease(ctx context.Context, s step, running *cells.Assignment) error {
	k := l.signatures
	if !k.Pinned() || s.Rollback || s.Task == taskHeal || s.Task == taskApply && k.HasPassed(s.Assignment) {
		return nil
	}
	b, err := l.agent.client.FetchTrust(ctx, k.RootVersion())
	if err != nil {
		return &cells.UnavailableError{Cause: err}
	}
	release := ""
	if running != nil {
		release = running.Release
	}
	if err = k.Admit(s.Assignment, release, b, l.agent.clock.Latest()); err == nil {
		return nil
	}
	unavailable, damaged := new(cells.UnavailableError), new(signatures.DamagedError)
	late := errors.Is(err, trust.ErrExpired) || errors.Is(err, signatures.ErrNotPicked) // newer files may come
	if !late && !errors.As(err, &unavailable) && !errors.As(err, &damaged) {
		err = &content.RefusedError{Cause: err} // an alarm
	}
	return &cells.UnavailableError{Cause: err}
}
