package runcmd

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells/agent/disk"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine"
	"github.com/sluice-cd/sluice/engine/controlplane/signin"
	"github.com/sluice-cd/sluice/engine/controlplane/transport"
	"github.com/sluice-cd/sluice/engine/debugging"
	"github.com/sluice-cd/sluice/engine/exports"
	"github.com/sluice-cd/sluice/engine/plan"
	"github.com/sluice-cd/sluice/engine/reach"
	"github.com/sluice-cd/sluice/engine/signing"
	"github.com/sluice-cd/sluice/engine/store"
	"github.com/sluice-cd/sluice/engine/timestamper"
	"github.com/sluice-cd/sluice/internal/filelock"
	"github.com/sluice-cd/sluice/internal/gitrepo"
	"github.com/sluice-cd/sluice/releases"
)

// engineOptions are the flags of serve and tick.
type engineOptions struct {
	hookSecretFile string // file
	poll           time.Duration
	author         string
	signingKey     string
	tlsDir         string // empty: DATA/tls
	level          string

	webhookSecrets string // file
	noticeSecrets  string // folder

	gatesReach, webhooksReach []string // of reach.Parse

	warming func(releases.Digest, time.Time) (plan.Warming, bool) // of engine.Options; nil: no images are served

	ownsData bool // this process has locked the data folder
}

func (r *engineOptions) engineFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&r.author, "author", "Sluice <sluice@localhost>", "who commits promotions: `NAME-AND-ADDRESS`")
	f.StringVar(&r.signingKey, "signing-key", "",
		"`FILE` with the private SSH key that signs the engine's commits (default: engine.key in DIR/tls of --data, or in --tls-dir; made at the first start)")
	f.StringVar(&r.level, "log", "info", "log `LEVEL`: debug, info, warn, error")
	f.StringVar(&r.webhookSecrets, "webhook-secrets-file", "",
		"`FILE` with lines of NAME whsec_BASE64: the secrets that sign messages to webhooks (default "+
			"$SLUICE_WEBHOOK_SECRETS)")
	f.StringSliceVar(&r.gatesReach, "gates-reach", []string{reach.Default},
		"`WHERE` check and metric gates may ask, a list of: public, private, loopback, an address, a range such as "+
			"10.1.0.0/16, the name of a host")
}

func parseReach(cmd *cobra.Command, name string, entries []string) (reach.List, error) {
	list, err := reach.Parse(entries)
	if err != nil {
		err = cli.UsageError(cmd, "--%s: %w", name, err)
	}
	return list, err
}

const missingData = "--data, the folder for the mirror and the store, is missing"

// MakesData reports whether a verb makes the folder that --data names; for all others it must be there.
func MakesData(cmd *cobra.Command) bool {
	return slices.Contains([]string{"sluice serve", "sluice tick"}, cmd.CommandPath())
}

// runningEngine is an engine with its repository and store. The caller closes it.
type runningEngine struct {
	*engine.Engine
	repo       *repos.OpenRepository
	store      repos.Store
	sessions   *engine.RecordWatch      // sessions that other replicas wrote
	timestamps *timestamper.Timestamper // nil: the engine's key can't sign what cells verify
	debugging  *debugging.Keeper        // requests for debug access
	identity   repos.CommitIdentity
	log        zerolog.Logger
}

func (e *runningEngine) Close() error {
	e.repo.Close()
	return e.store.Close()
}

// openEngine opens the store and the repository, and makes the engine.
func openEngine(ctx context.Context, a *cli.App, cmd *cobra.Command, r engineOptions) (*runningEngine, error) {
	if a.Data == "" {
		return nil, cli.UsageError(cmd, missingData)
	}
	level, err := zerolog.ParseLevel(r.level)
	if err != nil {
		return nil, cli.UsageError(cmd, "--log %q is none of debug, info, warn, error", r.level)
	}
	log := a.Logger().Level(level)
	gates, err := parseReach(cmd, "gates-reach", r.gatesReach)
	if err != nil {
		return nil, err
	}
	as := repos.CommitIdentity{}
	name, rest, ok := strings.Cut(r.author, " <")
	mail, closed := strings.CutSuffix(rest, ">")
	if as.Person = (releases.Person{Name: name, Email: mail}); !ok || !closed || name == "" {
		return nil, cli.UsageError(cmd, "--author %q is not of the form Name <address>", r.author)
	}
	if as.Signer, err = engineSigner(a.Data, r); err != nil {
		return nil, err
	}
	st, err := repos.MakeStore(a, ctx, log)
	if r.ownsData && errors.Is(err, store.ErrDamaged) {
		if err := putAsideStore(filepath.Join(a.Data, repos.StoreFile), log); err != nil {
			return nil, err
		}
		st, err = repos.MakeStore(a, ctx, log)
	}
	if err != nil {
		return nil, err
	}
	repo, err := repos.OpenReleasesAs(ctx, a, cmd, as)
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	_, err = os.Stat(repo.Loader.CacheFile)
	first := errors.Is(err, fs.ErrNotExist) // nothing was read from the repository before
	if err := repo.CheckKind(ctx, first); err != nil {
		repo.Close()
		return nil, errors.Join(err, st.Close())
	}
	repos.RecordFollowedBranch(a, ctx, repo.Location)
	key := signing.Public(as.Signer.Key)
	by := headSigner(as.Signer.Key)
	err = repos.StoreEngineKey(ctx, st, key)
	var e *engine.Engine
	sessions, timestamps := engine.NewRecordWatch(signin.SessionsKind), engine.NewRecordWatch(timestamper.Kind)
	asked := engine.NewRecordWatch(debugging.Kind)
	if err == nil {
		e, err = engine.New(ctx, repo.Repo, st, engine.Options{Log: log, Key: key, Signer: by,
			Probe: engine.NewHTTPProber(gates, exports.New(st.Records(), nil)), Audit: st, Poll: r.poll,
			CacheFile: repo.Loader.CacheFile, Warming: r.warming,
			Watches: []*engine.RecordWatch{sessions, timestamps, asked}})
	}
	if err != nil {
		repo.Close()
		return nil, errors.Join(err, st.Close())
	}
	return &runningEngine{Engine: e, repo: repo, store: st, sessions: sessions,
		timestamps: openTimestamper(e, st, timestamps, by, log),
		debugging: debugging.New(st.Records(),
			func(byCell map[string]string) { engine.AnnounceDebug(e, byCell) }, asked.Changed(),
			log.With().Str("about", "debug access").Logger()),
		identity: as, log: log}, nil
}

// putAsideStore puts a damaged database aside, with the files that SQLite keeps beside it. What a new one lacks, git
// and the cells' reports tell again; people's tokens, the audit and messages that wait for webhooks are in the old one.
func putAsideStore(file string, log zerolog.Logger) error {
	aside, err := disk.PutAside(file, time.Now())
	if err == nil {
		err = moveSideFiles(file, aside)
	}
	if err != nil {
		return fmt.Errorf("put the damaged database aside: %w", err)
	}
	log.Error().Str("file", aside).Msg("the database is damaged: it was put aside, and cells' reports refill a new one; " +
		"people's tokens and the audit are in the old one: to have them back, stop serve and restore a backup")
	return nil
}

// keysFolder returns the folder of the control plane's keys, which replicas share; the engine's key is there too.
func keysFolder(data, tlsDir string) string { return cmp.Or(tlsDir, filepath.Join(data, "tls")) }

func engineKeyFile(data, tlsDir string) string {
	return filepath.Join(keysFolder(data, tlsDir), "engine.key")
}

// engineSigner returns the key that the engine signs with: the one in --signing-key or, without the flag, its own.
func engineSigner(data string, r engineOptions) (*gitrepo.SSHSigner, error) {
	if r.signingKey != "" {
		signer, err := gitrepo.LoadSigner(r.signingKey)
		return &signer, err
	}
	key, err := signing.LoadOrCreate(engineKeyFile(data, r.tlsDir), rand.Reader)
	return &gitrepo.SSHSigner{Key: key}, err
}

// lockFile is locked in the data folder while serve runs there. The file stays afterwards.
const lockFile = "serve.lock"

// lockDataFolder keeps a second serve out of the data folder: each holds its cells' reports in memory, so the
// other would take those cells for silent. The system releases the lock when the process ends, in whatever way.
func lockDataFolder(data string) (release func() error, err error) {
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, cli.Fail(err, "--data names a folder, which is created if it does not exist")
	}
	f, err := os.OpenFile(filepath.Join(data, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, cli.Fail(err, "--data names a folder that can be written to")
	}
	err = filelock.Lock(f, 0, "sluice serve")
	if err == nil {
		return f.Close, nil
	}
	if held := new(filelock.HeldError); errors.As(err, &held) {
		err = cli.Fail(fmt.Errorf("another serve works in %s: %w", data, err),
			"stop that one first, or give this one a --data of its own")
	}
	return nil, errors.Join(err, f.Close())
}

// advertise stores where cells reach this control plane and by which keys, or returns an error if cells of the
// store know other keys. The last replica to start wins; if its address or standby key differs, replicas may
// have been started with different settings.
func advertise(ctx context.Context, st repos.Store, mine repos.Advertised, dir string, log zerolog.Logger) error {
	for {
		known, stored, err := repos.ReadAdvertised(ctx, st)
		if err != nil {
			return fmt.Errorf("serve: %w", err)
		}
		if stored != "" && !slices.Contains(known.Pins, mine.Pins[0]) {
			return cli.Fail(fmt.Errorf("serve: the active key in %s is %s, and cells of this store know only %s: "+
				"they would not trust it", dir, mine.Pins[0], known.Pins),
				"copy active.key and standby.key from the --tls-dir of a replica that works, or from the "+
					"backup, to %s", dir)
		}
		if known.Address == mine.Address && slices.Equal(known.Pins, mine.Pins) {
			return nil
		}
		data, err := json.Marshal(mine)
		if err != nil {
			return err
		}
		err = st.SetFact(ctx, repos.AdvertisedFact, stored, string(data))
		switch {
		case errors.Is(err, plan.ErrStale): // another replica was quicker: look again
			continue
		case err != nil:
			return err
		case stored != "" && known.Address != mine.Address:
			log.Warn().Str("before", known.Address).Str("now", mine.Address).
				Msg("new cells get another address from now on: give all replicas the same --cells-address")
		}
		if stored != "" && known.Pins[0] == mine.Pins[0] && !slices.Equal(known.Pins, mine.Pins) {
			log.Warn().Strs("before", known.Pins).Strs("now", mine.Pins).
				Msg("the standby key has changed: if other replicas run, copy this --tls-dir to them; cells take the new " +
					"one only if the standby key before signed it (sluice standby-key)")
		}
		return nil
	}
}

// keepLocalAddress stores where this control plane answers on its own machine, for sluice cell add.
func keepLocalAddress(ctx context.Context, st repos.Store, listening *listeners) error {
	address := ""
	for _, l := range listening.all {
		if listening.public != "" {
			break // cells have keys
		}
		if u := transport.ListenerURL(l); strings.HasPrefix(u, "http://") || strings.HasPrefix(u, "unix://") {
			address = u
			break
		}
	}
	for {
		before, err := st.Fact(ctx, repos.LocalFact)
		if err == nil && before != address {
			err = st.SetFact(ctx, repos.LocalFact, before, address)
		}
		if !errors.Is(err, plan.ErrStale) {
			return err
		}
	}
}
