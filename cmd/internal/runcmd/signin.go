package runcmd

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/channels"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/engine/controlplane/signin"
	"github.com/sluice-cd/sluice/engine/reach"
)

// signInOptions are the flags of serve that say where people sign in.
type signInOptions struct {
	signin.ProviderOptions
	secretFile string
}

func (o *signInOptions) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.Issuer, "oidc-issuer", "",
		"`URL` of the OpenID Connect provider where people sign in (default: nobody can)")
	f.StringVar(&o.ClientID, "oidc-client-id", "", "`ID` under which the provider knows this control plane")
	f.StringVar(&o.secretFile, "oidc-client-secret-file", "",
		"`FILE` with the client's secret (default: a client without one)")
	f.StringSliceVar(&o.Scopes, "oidc-scopes", nil,
		"`SCOPES` to ask for (default: openid, and of profile, email, groups and offline_access what the provider has)")
	f.StringVar(&o.Prompt, "oidc-prompt", "",
		"`VALUE` of the parameter prompt, such as consent, without which some providers give no refresh token")
	f.StringVar(&o.GroupsClaim, "oidc-groups-claim", "groups", "`CLAIM` that has a person's groups")
}

// validate checks the flags, and reads the client's secret.
func (o *signInOptions) validate(cmd *cobra.Command, d listenOptions) error {
	if o.Issuer == "" {
		for _, name := range []string{"oidc-client-id", "oidc-client-secret-file"} {
			if cmd.Flags().Changed(name) {
				return cli.UsageError(cmd, "--%s goes with --oidc-issuer, which is missing", name)
			}
		}
		return nil
	}
	if err := o.Validate(); err != nil {
		return cli.UsageError(cmd, "--oidc-issuer, --oidc-client-id: %w", err)
	}
	secure := false
	for _, at := range d.listen {
		secure = secure || strings.HasPrefix(at, "https://")
	}
	if !secure {
		return cli.UsageError(cmd, "people sign in at https:// addresses only: add --listen https://HOST:PORT")
	}
	if o.secretFile == "" {
		return nil
	}
	secret, err := cli.ReadSmallFile(o.secretFile)
	if err != nil {
		return fmt.Errorf("read the client's secret: %w", err)
	}
	if o.ClientSecret = strings.TrimSpace(string(secret)); o.ClientSecret == "" {
		return cli.Fail(fmt.Errorf("the client's secret in %s is empty", o.secretFile),
			"put the secret there that the provider shows, or leave --oidc-client-secret-file out")
	}
	return nil
}

// openSignIn returns the part that signs people in and recognises workloads. The issuers of workloads are named in
// sluice.yaml, so that they are asked only where gates may ask (R53); the provider is named by who starts serve.
func (o signInOptions) openSignIn(cmd *cobra.Command, e *runningEngine, keys string, r engineOptions,
) (*signin.Service, error) {
	gates, err := parseReach(cmd, "gates-reach", r.gatesReach)
	if err != nil {
		return nil, err
	}
	key, err := signin.LoadOrCreateKey(filepath.Join(keys, "signin.key"))
	if err != nil {
		return nil, cli.Fail(err, "--tls-dir names the folder of the control plane's keys; replicas share it")
	}
	o.Client = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return signin.New(signin.Options{Provider: o.ProviderOptions, Records: e.store.Records(),
		Watch: e.sessions, Key: key, Recorder: e.store,
		Workloads: gates.Client(reach.Options{Timeout: 10 * time.Second}), Log: e.log,
		Access: func() (*channels.Access, bool) {
			v := e.View()
			if v == nil {
				return nil, false
			}
			return v.Desired.Pipeline.Access, true
		}}), nil
}
