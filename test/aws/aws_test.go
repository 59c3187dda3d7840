package aws

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-cd/sluice/cells/infrastructure/stack/stacktest"
	"github.com/sluice-cd/sluice/test/debian"
)

// patience is how long anything may take on a busy machine.
const patience = 4 * time.Minute

// place is a release repository with its control plane, and a customer's account.
type place struct {
	t       *testing.T
	dir     string
	program string
	account *stacktest.Account
	address string // of AWS
	logs    []string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	if err := debian.Program(t.Context(), "aws", "awscli"); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "aws-") // short: the path of a socket is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p := &place{t: t, dir: dir, program: os.Getenv("SLUICE"), account: stacktest.New()}
	if p.program == "" {
		p.program = filepath.Join(dir, "sluice")
		build := exec.CommandContext(t.Context(), "go", "build", "-o", p.program, "./cmd/sluice")
		build.Dir = "../.."
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build sluice: %v\n%s", err, out)
		}
	}
	server := httptest.NewServer(p.account)
	t.Cleanup(server.Close)
	p.address = server.URL
	return p
}

func (p *place) path(name string) string { return filepath.Join(p.dir, name) }

// env is that of everything: nothing of the developer's.
func (p *place) env(key string) []string {
	return []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=ada", "GIT_AUTHOR_EMAIL=ada@example.com", "GIT_COMMITTER_NAME=ada",
		"GIT_COMMITTER_EMAIL=ada@example.com", "SLUICE_REPO=" + p.path("releases.git"),
		"SLUICE_SERVER=unix://" + p.path("s"), "AWS_ENDPOINT_URL=" + p.address, "AWS_REGION=" + stacktest.Region,
		"AWS_DEFAULT_REGION=" + stacktest.Region, "AWS_ACCESS_KEY_ID=" + key, "AWS_SECRET_ACCESS_KEY=secret",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=2"}
}

func (p *place) try(name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Env = p.dir, p.env("ADMIN")
	out, err := c.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (p *place) run(name string, args ...string) string {
	p.t.Helper()
	out, err := p.try(name, args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// sluice runs a verb.
func (p *place) sluice(args ...string) string { p.t.Helper(); return p.run(p.program, args...) }

// aws runs AWS's own command, as the customer.
func (p *place) aws(args ...string) string {
	p.t.Helper()
	return p.run("aws", append([]string{"--endpoint-url", p.address}, args...)...)
}

// start starts a program that runs until the test ends.
func (p *place) start(key string, args ...string) {
	p.t.Helper()
	log := p.path(args[0] + ".log")
	file, err := os.Create(log)
	if err != nil {
		p.t.Fatal(err)
	}
	p.logs = append(p.logs, log)
	c := exec.CommandContext(p.t.Context(), p.program, args...)
	c.Dir, c.Env, c.Stdout, c.Stderr = p.dir, p.env(key), file, file
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGINT) }
	c.WaitDelay = 20 * time.Second
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Process.Signal(syscall.SIGINT); _ = c.Wait(); _ = file.Close() })
}

// eventually repeats a verb until it prints the pattern.
func (p *place) eventually(pattern string, args ...string) string {
	p.t.Helper()
	want := regexp.MustCompile(pattern)
	var said string
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		if said, err = p.try(p.program, args...); err == nil && want.MatchString(said) {
			return said
		}
	}
	for _, log := range p.logs {
		text, _ := os.ReadFile(log)
		p.t.Logf("%s: %s", log, text[max(0, len(text)-4000):])
	}
	p.t.Fatalf("sluice %s never printed %q; at last %v: %s", strings.Join(args, " "), pattern, err, said)
	return ""
}

// push commits files of a fixture, or texts, and pushes them.
func (p *place) push(message string, change func(repo string)) {
	p.t.Helper()
	repo := p.path("repo")
	p.run("git", "-C", repo, "pull", "-q", "--rebase")
	change(repo)
	p.run("git", "-C", repo, "add", "-A")
	p.run("git", "-C", repo, "commit", "-qm", message)
	for range 50 {
		if _, err := p.try("git", "-C", repo, "push", "-q"); err == nil {
			return
		}
		p.run("git", "-C", repo, "pull", "-q", "--rebase")
	}
	p.t.Fatalf("%q never landed", message)
}

func (p *place) write(name, text string) {
	p.t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// addUpdate commits a sample's infrastructure update.
func (p *place) addUpdate(number string) {
	p.t.Helper()
	p.push("infrastructure "+number, func(repo string) {
		from := os.DirFS("../../fixtures/workspaces/infrastructure/" + number)
		if err := os.CopyFS(filepath.Join(repo, "infrastructure", number), from); err != nil {
			p.t.Fatal(err)
		}
	})
}

// R62: from an empty account to a cell with the newest infrastructure: register, install, notice, update, current. The
// customer has AWS's own command, the agent the role of the sample's template.
func TestR62FromRegistrationToCurrent(t *testing.T) {
	p := newPlace(t)
	var told atomic.Int32
	tickets := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, _ := io.ReadAll(r.Body); strings.Contains(string(body), "execute infrastructure update 8 within 14 days") {
			told.Add(1)
		}
	}))
	defer tickets.Close()
	p.write(p.path("secrets/tickets"), "whsec_YSBtYWRlLXVwIHNlY3JldCBvZiAzMiBieXRlcyBub3c=")
	p.write(p.path("app/kustomization.yaml"), "resources: [app.yaml]\n")
	p.write(p.path("app/app.yaml"), "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: app}\n")
	p.sluice("init", "--bare", "releases.git")
	p.run("git", "clone", "-q", "releases.git", "repo")
	p.start("NOBODY", "serve", "--data", "data", "--listen", "unix://"+p.path("s"), "--cells", "127.0.0.1:0",
		"--poll", "1s", "--notice-secrets", p.path("secrets"), "--webhooks-reach", "loopback")
	p.eventually("staging", "status")
	p.addUpdate("7")
	p.sluice("release", "cut", "1.0.0", "--from", "app")

	p.bootstrap()
	p.eventually(`acme +staging +1\.0\.0 +healthy +registered`, "cell", "list") // registered, and installed
	p.eventually(`acme +staging +7 +current`, "infra", "status")
	said := p.eventually(`actual +7, applied`, "infra", "show", "acme")
	if strings.Contains(said, "not read") {
		t.Errorf("the sample's role does not suffice: %s", said)
	}

	// notice
	p.push("tell customers", func(repo string) {
		p.write(filepath.Join(repo, "notices.yaml"), "apiVersion: sluice/v1\nkind: Notices\ncustomers: [tickets]\n"+
			"sinks: {tickets: {type: webhook, secret: tickets, url: \""+tickets.URL+"\"}}\n")
	})
	p.addUpdate("8")
	p.eventually(`acme +staging +7 +notified +8`, "infra", "status")
	if told.Load() != 1 {
		t.Errorf("the customer was told %d times", told.Load())
	}
	p.update()
}

// bootstrap does what the customer's page says, up to the agent in its cluster, which here is a process with a folder.
func (p *place) bootstrap() {
	p.t.Helper()
	p.sluice("cell", "bootstrap", "acme", "--target", "aws", "--channel", "staging",
		"--image", "registry.example/sluice:1", "--for", "shop", "--endpoint-service",
		"com.amazonaws.vpce."+stacktest.Region+".vpce-svc-0123456789abcdef0",
		"--zone-id", "euc1-az1", "--zone-id", "euc1-az2", "--account", stacktest.Number, "--out", "acme")
	page, err := os.ReadFile(p.path("acme/customer.md"))
	if err != nil {
		p.t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^aws (cloudformation deploy .*)$`).FindAllStringSubmatch(string(page), -1)
	if len(commands) != 2 {
		p.t.Fatalf("%d commands on the page: %s", len(commands), page)
	}
	for _, c := range commands {
		p.aws(strings.Fields(strings.Replace(c[1], "--template-file ", "--template-file acme/", 1))...)
	}
	role, err := os.ReadFile(p.path("acme/role.yaml"))
	if err != nil {
		p.t.Fatal(err)
	}
	policy, err := stacktest.PolicyOf(role, "AgentRole")
	if err != nil {
		p.t.Fatal(err)
	}
	p.account.Allow("AGENT", policy)
	for _, quota := range []string{"ec2/L-1216C47A", "vpc/L-F678F1CE", "vpc/L-29B6F2EB"} {
		p.account.SetQuota(quota, 50)
	}
	manifest, err := os.ReadFile(p.path("acme/agent.yaml"))
	if err != nil {
		p.t.Fatal(err)
	}
	flags := regexp.MustCompile(`--infrastructure(-quota)?, "[^"]+"`).FindAllString(string(manifest), -1)
	if len(flags) != 4 {
		p.t.Fatalf("the manifest has %q", flags)
	}
	p.sluice("cell", "add", "acme", "--token-file", "join.token")
	args := []string{"agent", "--join", "@join.token", "--dir", "product", "--healthy-for", "0s",
		"--report-every", "500ms", "--infrastructure-every", "500ms"}
	for _, flag := range flags {
		name, value, _ := strings.Cut(strings.ReplaceAll(flag, `"`, ""), ", ")
		args = append(args, name, value)
	}
	p.start("AGENT", args...)
}

// update is what the customer does about update 8: it fails first, drifts later, and AWS is busy at times.
func (p *place) update() {
	const stack = "sluice-acme-instance"
	template := "file://" + p.path("repo/infrastructure/8/instance.yaml")
	prepare := func(name string) {
		args := []string{"cloudformation", "create-change-set", "--stack-name", stack, "--change-set-name", name,
			"--template-body", template, "--parameters"}
		for _, parameter := range []string{"Cell", "ZoneIdA", "ZoneIdB", "ControlPlaneService", "ControlPlanePort"} {
			args = append(args, "ParameterKey="+parameter+",UsePreviousValue=true")
		}
		p.aws(args...)
		p.aws("cloudformation", "wait", "change-set-create-complete", "--stack-name", stack, "--change-set-name", name)
	}
	execute := func(name string) {
		p.aws("cloudformation", "execute-change-set", "--stack-name", stack, "--change-set-name", name)
	}
	prepare("first")
	p.eventually(`acme +staging +7 +notified +8 .*change set first is CREATE_COMPLETE: https://`+stacktest.Region+
		`\.console\.aws\.amazon\.com/cloudformation/home`, "infra", "status")
	p.account.Break(true)
	execute("first")
	p.account.Break(false)
	p.eventually(`acme +staging +7 +failed +8 .*7, failed`, "infra", "status")
	p.account.Hold()
	said := p.sluice("infra", "prepare", "repo/infrastructure/8/instance.yaml", "--stack", stack)
	if !strings.Contains(said, "Modify InfrastructureVersion") ||
		!strings.Contains(said, "#/stacks/changesets/changes?") {
		p.t.Errorf("infra prepare said %s", said)
	}
	execute("sluice-8")
	p.eventually(`acme +staging +7 +applying +8 .*change set sluice-8 is EXECUTE_IN_PROGRESS`, "infra", "status")
	p.account.Finish()
	p.aws("cloudformation", "wait", "stack-update-complete", "--stack-name", stack)
	p.eventually(`acme +staging +8 +current`, "infra", "status")

	p.aws("ssm", "put-parameter", "--overwrite", "--name", "/sluice/acme/infrastructure", "--value", "9")
	p.eventually(`acme +staging +8 +failed .*8, drifted.*changed by hand: InfrastructureVersion`, "infra", "status")
	p.aws("ssm", "put-parameter", "--overwrite", "--name", "/sluice/acme/infrastructure", "--value", "8")
	p.eventually(`acme +staging +8 +current`, "infra", "status")

	p.account.Throttle(1 << 30)
	p.eventually(`not read since .*AWS limits requests`, "infra", "show", "acme")
	p.account.Throttle(0)
	p.eventually(`actual +8, applied, read from cloudformation *\n`, "infra", "show", "acme")
}
