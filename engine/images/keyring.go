package images

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/rs/zerolog"

	"github.com/sluice-cd/sluice/cells/process"
	"github.com/sluice-cd/sluice/engine/images/ecr"
)

const (
	assumedLife   = 12 * time.Hour   // of credentials whose end is not known: that of ECR's
	shortestUse   = time.Minute      // between two requests for what has not been refused
	refusedPause  = 10 * time.Second // between two requests for what was refused, or was not to be had
	helperTimeout = 30 * time.Second
	maxHelper     = 64 << 10 // bytes that a helper writes
)

// keyring keeps what to sign in with at registries. What comes to an end is replaced after half of its life and, if
// nothing else is to be had then, used until its end.
type keyring struct {
	ask func(ctx context.Context, listed *registries, registry string) (*authn.AuthConfig, time.Duration, error)

	mu   sync.Mutex
	kept map[string]*credential // by registry
}

// credential is what one signs in with at one registry.
type credential struct {
	mu      sync.Mutex // held while it is asked for
	of      *registries
	config  *authn.AuthConfig // nil: there is none yet
	renew   time.Time         // when it is replaced
	ends    time.Time         // when it is of no use
	notAsk  time.Time         // until when it is not asked for again
	refused bool              // by the registry
	err     error             // of the newest request; nil: none
}

func newKeyring(log zerolog.Logger) *keyring {
	s := &sources{log}
	return &keyring{ask: s.ask, kept: map[string]*credential{}}
}

// get returns what to sign in with at a registry that is listed, and for how long it is used.
func (k *keyring) get(ctx context.Context, listed *registries, registry string) (authn.Authenticator, time.Duration,
	error) {

	k.mu.Lock()
	c := k.kept[registry]
	if c == nil { // there are as many as the file lists
		c = &credential{}
		k.kept[registry] = c
	}
	k.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.of != listed {
		c.of, c.config, c.err, c.notAsk = listed, nil, nil, time.Time{}
	}
	if (c.config == nil || c.refused || !now.Before(c.renew)) && !now.Before(c.notAsk) {
		c.replace(ctx, k, registry)
	}
	if c.config == nil || !now.Before(c.ends) {
		if c.err == nil {
			c.err = fmt.Errorf("the credentials for %s have expired: check the clock of the control plane", registry)
		}
		return nil, 0, c.err
	}
	used := max(c.renew.Sub(now), shortestUse)
	if *c.config == (authn.AuthConfig{}) {
		return authn.Anonymous, used, nil
	}
	return authn.FromConfig(*c.config), used, nil
}

// replace asks for new credentials, whether or not the client that needs them stays. It is called with mu.
func (c *credential) replace(ctx context.Context, k *keyring, registry string) {
	config, life, err := k.ask(context.WithoutCancel(ctx), c.of, registry)
	now := time.Now()
	c.err, c.notAsk = err, now.Add(refusedPause)
	if err != nil {
		return
	}
	c.config, c.refused, c.ends = config, false, now.Add(life)
	c.renew = now.Add(max(life/2, shortestUse))
}

// refuse says that a registry refused what it was given.
func (k *keyring) refuse(registry string) {
	k.mu.Lock()
	c := k.kept[registry]
	k.mu.Unlock()
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.refused = true
	}
}

// sources are where credentials come from.
type sources struct{ log zerolog.Logger }

// ask asks the credential helper that the file names for a registry. Without one the file's own entry counts and, if
// that is empty, a private registry of ECR is signed in at by this process's identity on AWS.
func (s *sources) ask(ctx context.Context, listed *registries, registry string) (*authn.AuthConfig, time.Duration,
	error) {

	if helper, key := listed.helperOf(registry); helper != "" {
		config, err := s.askHelper(ctx, helper, key)
		return config, assumedLife, err
	}
	config, err := listed.entry(registry)
	if err != nil || *config != (authn.AuthConfig{}) {
		return config, assumedLife, err
	}
	if r, ok := ecr.ParseHost(registry); ok {
		t, err := r.Token(ctx)
		return &authn.AuthConfig{Username: t.User, Password: t.Password}, t.Life, err
	}
	return config, assumedLife, nil
}

// askHelper runs a credential helper of Docker's. What it is given stands in the file: nothing comes from a release or
// a cell. It gets none of the control plane's own settings.
func (s *sources) askHelper(ctx context.Context, helper, key string) (*authn.AuthConfig, error) {
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	environment := slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "SLUICE_") })
	out, says := process.NewLimitedBuffer(maxHelper), process.NewTail(1024)
	program := "docker-credential-" + helper
	err := process.Child{Args: []string{program, "get"}, Env: environment, Stdin: strings.NewReader(key), Stdout: out,
		Stderr: says, Whole: true}.Run(ctx)
	if err != nil && strings.Contains(string(out.Bytes()), "credentials not found") { // as the protocol says it
		return &authn.AuthConfig{}, nil
	}
	var answer struct{ Username, Secret string }
	if err == nil && (out.Exceeded() || json.Unmarshal(out.Bytes(), &answer) != nil) {
		err = errors.New("its output is not an answer of a credential helper")
	}
	if err != nil {
		// Cells are told less.
		s.log.Warn().Err(err).Str("helper", program).Str("says", says.LastLine(300)).Msg("a credential helper failed")
		return nil, fmt.Errorf("the credential helper %s failed: the control plane's log says why", program)
	}
	if answer.Username == "<token>" {
		return &authn.AuthConfig{IdentityToken: answer.Secret}, nil
	}
	return &authn.AuthConfig{Username: answer.Username, Password: answer.Secret}, nil
}
