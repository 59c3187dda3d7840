package runcmd

import (
	"github.com/rs/zerolog"
	"golang.org/x/crypto/ssh"

	"github.com/sluice-cd/sluice/channels/trust"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/timestamper"
)

// headSigner returns what signs channels' heads and timestamps with the engine's key; nil: a key of that type can't.
func headSigner(key ssh.Signer) *trust.Signer {
	by, err := trust.SSHSigner(key)
	if err != nil {
		return nil
	}
	return &by
}

// openTimestamper returns what signs timestamps for cells that verify releases; nil: the engine's key can't.
func openTimestamper(e *engine.Engine, st repos.Store, written *engine.RecordWatch, by *trust.Signer,
	log zerolog.Logger) *timestamper.Timestamper {

	if by == nil {
		return nil
	}
	return timestamper.New(timestamper.Options{Engine: e, Records: st.Records(), Written: written.Changed(),
		Signer: *by, Log: log.With().Str("about", "signed releases").Logger()})
}
