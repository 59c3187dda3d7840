package cellcmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/identity"
	"github.com/sluice-cd/sluice/cmd/internal/cli"
	"github.com/sluice-cd/sluice/cmd/internal/client"
	"github.com/sluice-cd/sluice/cmd/internal/install"
	"github.com/sluice-cd/sluice/cmd/internal/repos"
	"github.com/sluice-cd/sluice/engine/edits"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

// The kinds of places that a cell is set up in.
const (
	onHost       = "host"
	onKubernetes = "kubernetes"
	onAWS        = "aws"
)

// bootstrap is what the command line says.
type bootstrap struct {
	cell        edits.AddCell
	target, out string
	service     string
	number      int // of the infrastructure update; 0: the newest
	host        install.Host
	agent       install.Agent
	account     install.Account
}

// flagsOf returns which flags are for one target only.
func (b *bootstrap) flagsOf() map[string][]string {
	return map[string][]string{
		onHost: {"service", "program", "user", "dir", "state", "hook", "health", "images", "images-listen"},
		onAWS: {"endpoint-service", "region", "zone-id", "account", "template-url", "parameter",
			"infrastructure"},
	}
}

func cellBootstrapVerb(a *cli.App) *cobra.Command {
	var b bootstrap
	cmd := &cobra.Command{
		Use:   "bootstrap NAME --target host|kubernetes|aws --out DIR",
		Short: "Write what sets a cell up, on a machine, in a cluster or in an AWS account, and print the next steps",
		Long: `Makes a token, as sluice cell add does, and writes files to a folder that is empty or not there. With
--channel it adds the cell first; it commits nothing else.

  host         install.sh, which makes the agent a service of systemd (or, with --service none, becomes
               the agent), after a preflight. With --images, containerd pulls these registries' images
               through the agent
  kubernetes   agent.yaml, for one kubectl apply
  aws          the templates of an infrastructure update with their parameters filled in, agent.yaml, and
               customer.md: the steps for whoever owns the account, and what is made there and why.
               docs/provider.md says what you need on your side

The files hold the token, which works once, within an hour: only you can read them. Those for AWS do not,
since the customer needs longer: the page says when to ask for one.`,
		Example: `  sluice cell bootstrap acme --channel staging --target host --out acme --server unix:///run/sluice.sock
  sluice cell bootstrap acme --target kubernetes --image registry.example/sluice-agent:1.0 --for shop --out acme
  sluice cell bootstrap acme --target aws --endpoint-service com.amazonaws.vpce.eu-central-1.vpce-svc-0a1b2c3d --image registry.example/sluice-agent:1.0 --for shop --out acme`,
		Args: cli.ArgumentCount(1, 1, "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b.cell.Name = args[0]
			if err := b.check(cmd); err != nil {
				return err
			}
			if a.DryRun {
				if b.cell.Channel == "" {
					return cli.UsageError(cmd, "--dry-run shows the commit of a new cell: name its --channel")
				}
				return repos.CommitDecision(a, cmd, repos.ReleaseRepository(), b.cell)
			}
			if !findTokenStore(a, cmd) {
				return cli.UsageError(cmd, missingTokenStore)
			}
			if err := b.run(a, cmd); err != nil {
				return fmt.Errorf("bootstrap %s: %w", b.cell.Name, err)
			}
			return nil
		},
	}
	b.addFlags(cmd)
	client.AddServerFlag(a, cmd)
	return cmd
}

func (b *bootstrap) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&b.target, "target", "", "`WHERE` the cell is: host, kubernetes or aws")
	f.StringVar(&b.out, "out", "", "`DIR` for the files, which is empty or not there")
	f.StringVar(&b.cell.Channel, "channel", "", "add the cell first, to this `CHANNEL`")
	f.StringVar(&b.cell.Profile, "profile", "", "`PROFILE` of a new cell (default: default)")
	f.StringToStringVar(&b.cell.Values, "value", nil, "value of a new cell's parameter, `NAME=VALUE`; may be repeated")
	f.StringToStringVar(&b.cell.Labels, "label", nil, "label of a new cell, `KEY=VALUE`; may be repeated")
	f.StringVar(&b.service, "service", "systemd", "host: what keeps the agent running: systemd or none")
	f.StringVar(&b.host.Program, "program", "sluice", "host: `PATH` of this program there")
	f.StringVar(&b.host.User, "user", "sluice-agent", "host: `USER` of the service, made if it is not there")
	f.StringVar(&b.host.Dir, "dir", "/srv/product", "host: folder for the product's manifests")
	f.StringVar(&b.host.State, "state", "", "host: folder for the agent's own state (default /var/lib/sluice-agent-NAME)")
	f.StringVar(&b.host.Hook, "hook", "", "host: shell `COMMAND` to run after each switch")
	f.StringVar(&b.host.Health, "health", "", "host: shell `COMMAND` that exits 0 when the product works")
	f.StringArrayVar(&b.host.Registries, "images", nil, "host: `REGISTRY` whose images containerd pulls through the "+
		"agent; may be repeated")
	f.StringVar(&b.host.ImagesListen, "images-listen", "127.0.0.1:5001", "host: `ADDRESS` where it pulls them")
	b.agent.AddFlags(f)
	f.StringVar(&b.account.Service, "endpoint-service", "", "aws: `NAME` of your endpoint service")
	f.StringVar(&b.account.Region, "region", "", "aws: `REGION` of the cell (default: that of the endpoint service)")
	f.StringArrayVar(&b.account.Zones, "zone-id", nil, "aws: `AZ-ID` that the endpoint service is in; may be repeated")
	f.StringVar(&b.account.Customer, "account", "", "aws: `NUMBER` of the customer's account")
	f.StringVar(&b.account.TemplateURL, "template-url", "", "aws: `URL` of a folder in S3 to which you copy the "+
		"templates, for links that open them in the console")
	f.StringToStringVar(&b.account.Parameters, "parameter", nil, "aws: value of a template's parameter, `NAME=VALUE`; "+
		"may be repeated")
	f.IntVar(&b.number, "infrastructure", 0, "aws: `NUMBER` of the infrastructure update (default: the newest)")
}

// check returns what is wrong with the command line.
func (b *bootstrap) check(cmd *cobra.Command) error {
	if !cells.ValidName(b.cell.Name) {
		return cli.UsageError(cmd, "%q can't be a cell's name: it takes lower-case letters, digits and dashes",
			b.cell.Name)
	}
	if b.cell.Channel == "" && (b.cell.Profile != "" || len(b.cell.Values)+len(b.cell.Labels) > 0) {
		return cli.UsageError(cmd, "--profile, --value and --label are for a new cell, which needs --channel too")
	}
	if !slices.Contains([]string{onHost, onKubernetes, onAWS}, b.target) {
		return cli.UsageError(cmd, "--target %q is none of host, kubernetes and aws", b.target)
	}
	if b.out == "" {
		return cli.UsageError(cmd, "--out is missing: a folder for the files")
	}
	for target, names := range b.flagsOf() {
		for _, name := range names {
			if target != b.target && cmd.Flags().Changed(name) {
				return cli.UsageError(cmd, "--%s means nothing with --target %s", name, b.target)
			}
		}
	}
	if b.target == onHost {
		for _, name := range []string{"image", "for", "namespace", "node", "images-from", "cluster-admin"} {
			if cmd.Flags().Changed(name) {
				return cli.UsageError(cmd, "--%s means nothing with --target host", name)
			}
		}
		return b.checkHost(cmd)
	}
	err := b.agent.Check()
	if err == nil && b.target == onAWS {
		err = b.account.Check()
	}
	if err != nil {
		return cli.UsageError(cmd, "%w", err)
	}
	return nil
}

func (b *bootstrap) checkHost(cmd *cobra.Command) error {
	if b.service != "systemd" && b.service != "none" {
		return cli.UsageError(cmd, "--service %q is neither systemd nor none", b.service)
	}
	h := &b.host
	h.Cell, h.Systemd, h.SelfUpdate = b.cell.Name, b.service == "systemd", b.agent.SelfUpdate
	if h.State == "" {
		h.State = "/var/lib/sluice-agent-" + h.Cell
	}
	if err := h.Check(); err != nil {
		return cli.UsageError(cmd, "%w", err)
	}
	return nil
}

// bootstrapResult is the output of sluice cell bootstrap.
type bootstrapResult struct {
	Cell    string    `json:"cell"`
	Commit  string    `json:"commit,omitempty"` // of cell.yaml; empty: the cell existed
	Folder  string    `json:"folder"`
	Files   []string  `json:"files"`
	Expires time.Time `json:"expires,omitzero"` // the token in the files
	Steps   []step    `json:"steps"`
}

// step is one of the next steps.
type step struct {
	Say string `json:"say"`
	Run string `json:"run,omitempty"`
}

func (b *bootstrap) run(a *cli.App, cmd *cobra.Command) error {
	if err := checkEmpty(b.out); err != nil {
		return err
	}
	way, err := findTokenWay(cmd.Context(), a)
	if err != nil {
		return err
	}
	if way.keyless && b.target != onHost {
		return cli.Fail(errors.New("the control plane serves its own machine alone"),
			"start sluice serve with --cells and --cells-address, so that cells elsewhere have keys")
	}
	if b.target == onAWS { // before anything is committed
		if err := b.readTemplates(a, cmd, install.Account{Address: "example.com:7601"}); err != nil {
			return err
		}
	}
	result := bootstrapResult{Cell: b.cell.Name, Folder: b.out, Steps: []step{}}
	if b.cell.Channel != "" {
		if result.Commit, err = commitCell(a, cmd, b.cell); err != nil {
			return err
		}
	} else if _, err := readCell(cmd.Context(), a, cmd, b.cell.Name); err != nil {
		return err
	}
	files, err := b.make(a, cmd, way, &result)
	if err == nil {
		result.Files, err = writeFiles(b.out, files)
	}
	if err != nil {
		return err
	}
	return b.print(a, result)
}

// make makes the files, by name.
func (b *bootstrap) make(a *cli.App, cmd *cobra.Command, way tokenWay,
	result *bootstrapResult) (files map[string]string, err error) {
	var token identity.Token
	text := ""
	if !way.keyless {
		made, err := requestJoinToken(a, cmd, b.cell.Name)
		if err != nil {
			return nil, err
		}
		text, result.Expires = made.Token, made.Expires
		if token, err = identity.ParseToken(text); err != nil {
			return nil, err
		}
	}
	switch b.target {
	case onHost:
		b.host.Token, b.host.Server = text, way.address
		script, err := b.host.Script()
		result.Steps = b.hostSteps()
		return map[string]string{"install.sh": script}, err
	case onKubernetes:
		b.agent.Token, b.agent.MakeNamespaces = text, true
		manifest, err := b.agent.Manifest()
		result.Steps = []step{{"run this where kubectl reaches the cluster, until " +
			cli.FormatTime(result.Expires.Round(time.Second)) + ":",
			"kubectl apply -f " + install.Quote(filepath.Join(b.out, "agent.yaml"))}}
		return map[string]string{"agent.yaml": manifest}, err
	}
	result.Expires = time.Time{} // the customer gets another
	if err := b.readTemplates(a, cmd, install.Account{Address: token.Address, Pins: token.Pins}); err != nil {
		return nil, err
	}
	b.agent.MakeNamespaces, b.agent.Server = true, "https://"+install.AddressPlaceholder
	b.agent.Infrastructure, b.agent.Quotas, b.agent.Region = b.account.Reads(), b.account.Quotas(), b.account.Region
	files = map[string]string{}
	for _, s := range b.account.Stacks {
		files[s.File] = string(s.Template)
	}
	page, err := b.account.Page()
	manifest, wrong := b.agent.Manifest()
	files["customer.md"], files["agent.yaml"] = page, manifest
	result.Steps = b.accountSteps()
	return files, errors.Join(err, wrong)
}

func (b *bootstrap) hostSteps() []step {
	file := install.Quote(filepath.Join(b.out, "install.sh"))
	if !b.host.Systemd {
		return []step{{"run this on the machine; it goes on running:", "sh " + file}}
	}
	return []step{{"run this on the machine, as root:", "sh " + file},
		{"or from here, with the machine's address for HOST:", "ssh root@HOST sh -s < " + file}}
}

func (b *bootstrap) accountSteps() []step {
	var all []step
	service := b.account.Service[strings.LastIndex(b.account.Service, ".")+1:]
	all = append(all, step{"let the customer's account use the endpoint service (docs/provider.md):",
		"aws ec2 modify-vpc-endpoint-service-permissions --service-id " + service + " --add-allowed-principals " +
			b.account.Principal()})
	if b.account.TemplateURL != "" {
		all = append(all, step{"copy the templates to " + b.account.TemplateURL + ", for the links in customer.md", ""})
	}
	return append(all, step{"send the customer the folder: customer.md has the steps", ""},
		step{"when they ask for the token, which is valid for an hour then:",
			"sluice cell add " + b.cell.Name + " --token-file join.token"})
}

// readTemplates fills in the templates of the infrastructure update. about has the control plane's address and pins.
func (b *bootstrap) readTemplates(a *cli.App, cmd *cobra.Command, about install.Account) error {
	s, err := repos.ReleaseRepository().ReadSnapshot(cmd.Context(), a, cmd)
	if err != nil {
		return err
	}
	all := s.Desired.Infrastructure
	if len(all) == 0 {
		return cli.Fail(errors.New("the repository has no infrastructure updates"),
			"add infrastructure/N (docs/infrastructure.md)")
	}
	if b.number == 0 {
		b.number = all[len(all)-1].Number
	}
	at := slices.IndexFunc(all, func(u infrastructure.Update) bool { return u.Number == b.number })
	if at < 0 {
		return cli.Fail(fmt.Errorf("the repository has no infrastructure update %d", b.number), "sluice infra status")
	}
	if all[at].Faulty {
		return cli.Fail(fmt.Errorf("infrastructure update %d has faults", b.number), "sluice validate names them")
	}
	to := &b.account
	to.Cell, to.Address, to.Pins, to.Namespace, to.Update, to.Stacks = b.cell.Name, about.Address, about.Pins,
		b.agent.Namespace, all[at], nil
	for _, file := range all[at].Templates() {
		if _, withheld := s.Desired.Withheld[file]; withheld {
			return cli.Fail(fmt.Errorf("the newest change of %s has no owner's signature", file),
				"sluice validate names the commit: an owner signs it, or puts the file back")
		}
		text, err := fs.ReadFile(s.Files, file)
		if err == nil {
			err = to.Fill(file, text)
		}
		if err != nil {
			return err
		}
	}
	return to.CheckParameters()
}

func (b *bootstrap) print(a *cli.App, r bootstrapResult) error {
	return a.PrintResult(r, func() {
		if r.Commit != "" {
			a.Stdout.PrintLine("add cell %s to %s: commit %s", r.Cell, b.cell.Channel, cli.ShortID(r.Commit))
		}
		a.Stdout.PrintLine("wrote %s: %s", r.Folder, strings.Join(r.Files, ", "))
		if !r.Expires.IsZero() {
			a.Stdout.PrintLine("the token in it works once, until %s", cli.FormatTime(r.Expires.Round(time.Second)))
		}
		for _, s := range b.account.Stacks {
			if len(s.Open) > 0 {
				a.Stdout.PrintLine("%s leaves open, unless you name them with --parameter: %s", s.File,
					strings.Join(s.Open, ", "))
			}
		}
		for _, s := range r.Steps {
			a.Stdout.PrintLine("%s", s.Say)
			if s.Run != "" {
				a.Stdout.PrintLine("  %s", s.Run)
			}
		}
	})
}

// checkEmpty returns an error if a folder holds anything.
func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && len(entries) > 0 {
		err = cli.Fail(fmt.Errorf("%s holds files already", dir), "name a folder that is empty or not there")
	}
	return err
}

// writeFiles writes files that only their owner can read, and returns their names.
func writeFiles(dir string, files map[string]string) (names []string, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}
