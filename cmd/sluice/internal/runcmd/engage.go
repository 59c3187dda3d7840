package runcmd

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cmd/sluice/internal/cli"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/signing"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

// running is what serve and tick are told.
type running struct {
	secret string // file
	poll   time.Duration
	author string
	key    string
	level  string

	webhookSecrets string // file
}

func (r *running) engineFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.author, "author", "Sluice <sluice@localhost>", "in whose name promotions are committed")
	f.StringVar(&r.key, "signing-key", "", "`FILE` of a private SSH key that signs what the engine commits (default: one that the store keeps)")
	f.StringVar(&r.level, "log", "info", "log level: debug, info, warn, error")
	f.StringVar(&r.webhookSecrets, "webhook-secrets-file", "", "`FILE` of lines NAME whsec_BASE64: what messages to webhooks are signed with (default $SLUICE_WEBHOOK_SECRETS)")
}

const missingData = "--data, the folder for the mirror and the store, is missing"

// engaged is an engine with what it works on. Close it.
type engaged struct {
	*engine.Engine
	repo  *cli.Opened
	store cli.Store
	as    cli.Signatory
	log   zerolog.Logger
}

func (e *engaged) Close() error {
	e.repo.Close()
	return e.store.Close()
}

// engage opens what the engine works on.
func engage(ctx context.Context, a *cli.App, cmd *cobra.Command, r running) (*engaged, error) {
	if a.Data == "" {
		return nil, cli.Usage(cmd, missingData)
	}
	level, err := zerolog.ParseLevel(r.level)
	if err != nil {
		return nil, cli.Usage(cmd, "--log %q is none of debug, info, warn, error", r.level)
	}
	log := a.Logger().Level(level)
	as := cli.Signatory{}
	name, rest, ok := strings.Cut(r.author, " <")
	mail, closed := strings.CutSuffix(rest, ">")
	if as.Person = (releases.Person{Name: name, Email: mail}); !ok || !closed || name == "" {
		return nil, cli.Usage(cmd, "--author %q is not of the form Name <address>", r.author)
	}
	st, err := a.OpenStore(ctx, log)
	if err != nil {
		return nil, err
	}
	if as.Signer, err = engineSigner(ctx, st, r.key); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	repo, err := a.OpenAs(ctx, cmd, as)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	if err := repo.Peek(ctx); err != nil {
		repo.Close()
		return nil, errors.Join(err, st.Close())
	}
	e, err := engine.New(ctx, repo.Repo, st, engine.Options{Log: log, Key: signing.Public(as.Signer.Key), Probe: engine.HTTPProber{}, Poll: r.poll, Keep: filepath.Join(a.Data, keptFile)})
	if err != nil {
		repo.Close()
		return nil, errors.Join(err, st.Close())
	}
	return &engaged{Engine: e, repo: repo, store: st, as: as, log: log}, nil
}

// engineSigner is the key that the engine signs with: file's or, without one, the store's, which all replicas share.
func engineSigner(ctx context.Context, st cli.Store, file string) (*gitrepo.SSHSigner, error) {
	if file != "" {
		signer, err := gitrepo.LoadSigner(file)
		return &signer, err
	}
	key, err := signing.Key(ctx, st, rand.Reader)
	return &gitrepo.SSHSigner{Key: key}, err
}

// lockFile is held in the data folder while serve runs there. It stays when it is not held.
const lockFile = "serve.lock"

// alone keeps a second serve out of the data folder: each has what cells report to it in memory, so that the other
// would take the same cells for silent. The system frees it when the process ends, however it ends.
func alone(data string) (release func() error, err error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, cli.Fail(err, "--data names a folder, which is made if it is not there")
	}
	f, err := os.OpenFile(filepath.Join(data, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, cli.Fail(err, "--data names a folder that can be written")
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	switch {
	case err == nil:
		return f.Close, nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = cli.Fail(fmt.Errorf("another serve works in %s", data), "stop that one first, or give this one a --data of its own")
	default:
		err = fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return nil, errors.Join(err, f.Close())
}

// agree makes the store know where cells reach this control plane and by which keys, or says that it knows others. The one
// that started last counts; where that is another address or standby key, replicas may not have been started alike.
func agree(ctx context.Context, st cli.Store, mine cli.Advertised, dir string, log zerolog.Logger) error {
	for {
		known, kept, err := cli.ReadAdvertised(ctx, st)
		if err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		if kept != "" && !slices.Contains(known.Pins, mine.Pins[0]) {
			return cli.Fail(fmt.Errorf("serve: the active key in %s is %s, and cells of this store know only %s: they would not believe it", dir, mine.Pins[0], known.Pins),
				"copy active.key and standby.key from the --tls-dir of a replica that works, or from the backup, to %s", dir)
		}
		if known.Address == mine.Address && slices.Equal(known.Pins, mine.Pins) {
			return nil
		}
		data, err := json.Marshal(mine)
		if err != nil {
			return err
		}
		err = st.KeepFact(ctx, cli.AdvertisedFact, kept, string(data))
		switch {
		case errors.Is(err, plan.ErrStale): // another replica was quicker: look again
			continue
		case err != nil:
			return err
		case kept != "" && known.Address != mine.Address:
			log.Warn().Str("before", known.Address).Str("now", mine.Address).Msg("new cells are told another address from now on: give all replicas the same --cells-address")
		}
		if kept != "" && known.Pins[0] == mine.Pins[0] && !slices.Equal(known.Pins, mine.Pins) {
			log.Warn().Strs("before", known.Pins).Strs("now", mine.Pins).Msg("the standby key is another from now on: if other replicas run, copy this --tls-dir to them, else cells learn now one and now the other")
		}
		return nil
	}
}
