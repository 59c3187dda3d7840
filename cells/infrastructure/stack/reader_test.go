package stack_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/sluice-cd/sluice/cells"
	"github.com/sluice-cd/sluice/cells/agent/preflight"
	"github.com/sluice-cd/sluice/cells/infrastructure"
	"github.com/sluice-cd/sluice/cells/infrastructure/stack"
	"github.com/sluice-cd/sluice/cells/infrastructure/stack/stacktest"
)

// cloud is a customer's account, which AWS's SDK reaches. The agent has the role of the sample's template, and no other
// right.
type cloud struct {
	*stacktest.Account
	t     *testing.T
	admin *cloudformation.Client
}

const samples = "../../../fixtures/workspaces/infrastructure/"

func newCloud(t *testing.T) *cloud {
	t.Helper()
	account := stacktest.New()
	server := httptest.NewServer(account)
	t.Cleanup(server.Close)
	for name, value := range map[string]string{"AWS_ENDPOINT_URL": server.URL, "AWS_REGION": stacktest.Region,
		"AWS_ACCESS_KEY_ID": "AGENT", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_PROFILE": "", "HTTP_PROXY": "",
		"AWS_CA_BUNDLE": ""} {
		t.Setenv(name, value)
	}
	role := sample(t, "8/role.yaml")
	policy, err := stacktest.PolicyOf([]byte(role), "AgentRole")
	if err != nil {
		t.Fatal(err)
	}
	account.Allow("AGENT", policy)
	account.SetQuota("ec2/L-1216C47A", 16)
	return &cloud{account, t, cloudformation.New(cloudformation.Options{Region: stacktest.Region,
		BaseEndpoint: &server.URL,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "ADMIN", SecretAccessKey: "secret"}, nil
		})})}
}

func sample(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(samples, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// parameters are what the customer decides on.
func parameters() (all []types.Parameter) {
	for name, value := range map[string]string{"Cell": "acme", "ZoneIdA": "euc1-az1", "ZoneIdB": "euc1-az2",
		"ControlPlaneService": "com.amazonaws.vpce.eu-central-1.vpce-svc-0a"} {
		all = append(all, types.Parameter{ParameterKey: aws.String(name), ParameterValue: aws.String(value)})
	}
	return all
}

// create makes both stacks of an update.
func (c *cloud) create(number string) {
	c.t.Helper()
	_, err := c.admin.CreateStack(c.t.Context(), &cloudformation.CreateStackInput{StackName: aws.String("role"),
		TemplateBody: aws.String(sample(c.t, number+"/role.yaml")), Capabilities: []types.Capability{"CAPABILITY_IAM"},
		Parameters: []types.Parameter{{ParameterKey: aws.String("Cell"), ParameterValue: aws.String("acme")}}})
	if err == nil {
		_, err = c.admin.CreateStack(c.t.Context(), &cloudformation.CreateStackInput{StackName: aws.String("instance"),
			TemplateBody: aws.String(sample(c.t, number+"/instance.yaml")), Parameters: parameters()})
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

// update changes the last stack.
func (c *cloud) update(template string) {
	c.t.Helper()
	_, err := c.admin.UpdateStack(c.t.Context(), &cloudformation.UpdateStackInput{StackName: aws.String("instance"),
		TemplateBody: &template, Parameters: parameters()})
	if err != nil {
		c.t.Fatal(err)
	}
}

func reader() *stack.Reader {
	return stack.NewReader(stack.Options{Stacks: []string{"role", "instance"},
		Quotas: []cells.Quota{{Service: "ec2", Code: "L-1216C47A", Least: 16}}, DriftEvery: time.Nanosecond})
}

// wantState checks what a reader reads, in words, or the fault.
func (c *cloud) wantState(what string, r *stack.Reader, want string) infrastructure.State {
	c.t.Helper()
	is, err := r.Read(c.t.Context())
	got := is.String()
	if err != nil {
		got = err.Error()
	}
	if !strings.Contains(got, want) {
		c.t.Errorf("%s: %q, want %q", what, got, want)
	}
	if strings.Contains(got, "assumed-role") || strings.Contains(got, "arn:aws:sts") {
		c.t.Errorf("%s: it names AWS's session: %s", what, got)
	}
	return is
}

// R62: an update from its beginning to its end, one that is rolled back, and drift, as the agent reads them with the
// rights of the sample's role.
func TestR62StacksThroughAnUpdate(t *testing.T) {
	c := newCloud(t)
	r := reader()
	c.wantState("no stack", r, "there is no stack role in eu-central-1")
	c.create("7")
	is := c.wantState("created", r, "7, applied")
	if is.Stack == "" || is.Parameters["NodeType"] != "m7i.xlarge" || len(is.Quotas) != 1 || is.Quotas[0].Value != 16 {
		t.Errorf("%+v", is)
	}
	if len(is.Unread) > 0 {
		t.Errorf("not read: %v", is.Unread)
	}
	c.Hold()
	c.update(sample(t, "8/instance.yaml"))
	c.wantState("being executed", r, "7, applying")
	c.Finish()
	c.wantState("executed", r, "8, applied")

	c.Break(true)
	c.update(strings.ReplaceAll(sample(t, "8/instance.yaml"), `Value: "8"`, `Value: "9"`))
	c.wantState("rolled back", r, "8, failed")
	c.Break(false)
	c.update(sample(t, "7/instance.yaml"))
	c.wantState("lower than before", r, "7, applied")
	c.update(sample(t, "8/instance.yaml"))

	c.ChangeByHand("role", "AgentRole")
	_, _ = r.Read(t.Context()) // AWS begins to look
	c.wantState("drifted", r, "8, drifted, read from ; changed by hand: AgentRole")

	policy, _ := stacktest.PolicyOf([]byte(sample(t, "8/role.yaml")), "AgentRole")
	for _, action := range c.Asked("AGENT") {
		if !slices.Contains(policy.Allow, action) {
			t.Errorf("the agent asked for %s, which the sample's role does not allow", action)
		}
	}
}

// R62: the parameter of the version is missing, no number, or raised by hand.
func TestR62VersionParameter(t *testing.T) {
	c := newCloud(t)
	c.create("7")
	const name = "/sluice/acme/infrastructure"
	r := reader()
	for value, want := range map[string]string{"": "has no parameter InfrastructureVersion",
		"eight": "which is no number", "8": "7, drifted, read from ; changed by hand: InfrastructureVersion",
		"6": "6, drifted"} {
		c.SetParameter(name, value)
		c.wantState("the parameter is "+value, r, want)
	}
	c.SetParameter(name, "7")
	// without DriftEvery nothing would have asked AWS to look, whose word stays
	c.wantState("the stack of another template is the last", stack.NewReader(stack.Options{Stacks: []string{"instance",
		"role"}}), "has no parameter InfrastructureVersion")
}

// R62: what AWS denies or is too busy for is named, with what to do; what else can be read, is.
func TestR62DeniedAndThrottled(t *testing.T) {
	c := newCloud(t)
	c.create("7")
	all, _ := stacktest.PolicyOf([]byte(sample(t, "8/role.yaml")), "AgentRole")
	for action, want := range map[string]string{
		"cloudformation:DescribeStacks":              "AWS denies the agent cloudformation:DescribeStacks: allow it in",
		"cloudformation:GetTemplateSummary":          "AWS denies the agent cloudformation:GetTemplateSummary",
		"cloudformation:DescribeStackResource":       "AWS denies the agent cloudformation:DescribeStackResource",
		"ssm:GetParameter":                           "AWS denies the agent ssm:GetParameter",
		"cloudformation:ListChangeSets":              "7, applied, read from ; not read: AWS denies the agent cloudf",
		"cloudformation:DetectStackDrift":            "7, applied, read from ; not read: AWS denies the agent cloudf",
		"servicequotas:GetServiceQuota":              "7, applied, read from ; not read: AWS denies the agent servicequotas:",
		"cloudformation:DescribeStackResourceDrifts": "7, applied",
	} {
		p := stacktest.Policy{Allow: all.Allow, Deny: append(slices.Clone(all.Deny), action)}
		c.Allow("AGENT", p)
		c.wantState("without "+action, reader(), want)
	}
	c.Allow("AGENT", all)
	before := c.Count()
	c.Throttle(2)
	c.wantState("throttled twice", reader(), "7, applied") // AWS's SDK tries again
	c.Throttle(1000)
	c.wantState("throttled for long", reader(), "AWS limits requests of cloudformation:DescribeStacks: the")
	if n := c.Count() - before; n > 30 {
		t.Errorf("%d requests", n)
	}
	c.Throttle(0)
	t.Setenv("AWS_ACCESS_KEY_ID", "STRANGER")
	c.wantState("a key that AWS does not know", reader(), "does not accept the agent's credentials for cloudf")
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	c.wantState("no credentials", reader(), "the agent has no credentials for AWS")
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	c.wantState("no region", reader(), "the region is not known: set AWS_REGION")
}

// R62: while AWS refuses, what is known stays, with its age and why.
func TestR62LastKnownStaysWithItsAge(t *testing.T) {
	c := newCloud(t)
	c.create("7")
	changes := make(chan infrastructure.State, 100)
	f := infrastructure.NewFollower(reader(), 10*time.Millisecond, func(is infrastructure.State) { changes <- is })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	defer func() { cancel(); <-done }()
	await := func(want string) infrastructure.State {
		for {
			select {
			case is := <-changes:
				if strings.Contains(is.String(), want) {
					return is
				}
			case <-time.After(2 * time.Minute):
				t.Fatalf("nothing says %q: %s", want, f.Last().Fault)
			}
		}
	}
	first := await("7, applied")
	c.Allow("AGENT", stacktest.Policy{})
	is := await("not read since ")
	if is.Number != 7 || is.Status != cells.InfrastructureApplied || is.At.Before(first.At) {
		t.Errorf("%+v", is)
	}
	all, _ := stacktest.PolicyOf([]byte(sample(t, "8/role.yaml")), "AgentRole")
	c.Allow("AGENT", all)
	if is := await("7, applied"); is.Fault != "" {
		t.Errorf("%+v", is)
	}
}

// A bundle of authorities that a company's proxy needs is obeyed, and one that is broken is named.
func TestAuthoritiesOfACompany(t *testing.T) {
	c := newCloud(t)
	c.create("7")
	server := httptest.NewTLSServer(c.Account)
	defer server.Close()
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	c.wantState("an authority that nobody knows", reader(), "AWS can't be asked for cloudformation:DescribeStacks")
	bundle := filepath.Join(t.TempDir(), "bundle.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(bundle, text, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", bundle)
	c.wantState("the company's", reader(), "7, applied")
	t.Setenv("AWS_CA_BUNDLE", filepath.Join(samples, "7/role.yaml"))
	c.wantState("no bundle", reader(), "the configuration for AWS can't be read: check AWS_CONFIG_FILE")
}

// A way to AWS that is closed is named with the endpoint that is missing, in bounded time.
func TestNoWayToAWS(t *testing.T) {
	c := newCloud(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	t.Setenv("AWS_ENDPOINT_URL", "http://"+l.Addr().String())
	c.wantState("closed", reader(), "make an interface endpoint com.amazonaws.eu-central-1.cloudformation with ")
	t.Setenv("AWS_ENDPOINT_URL", "http://nowhere.invalid")
	c.wantState("unknown", reader(), "the name of AWS's endpoint for cloudformation:DescribeStacks is unknown here")
}

// The first reads and the preflight are made at the same time, by one Reader.
func TestReadDuringThePreflight(t *testing.T) {
	newCloud(t).create("8")
	r := reader()
	var both sync.WaitGroup
	both.Go(func() { r.Inspect(t.Context()) })
	both.Go(func() {
		if _, err := r.Read(t.Context()); err != nil {
			t.Error(err)
		}
	})
	both.Wait()
}

// The preflight on AWS: credentials, permissions, quotas and endpoints, each fault with its remedy; it changes nothing.
func TestPreflightOnAWS(t *testing.T) {
	c := newCloud(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	o := stack.Options{Stacks: []string{"role", "instance"}, Endpoints: map[string]string{"ec2": l.Addr().String(),
		"s3": closed.Addr().String(), "ecr.api": closed.Addr().String()},
		Quotas: []cells.Quota{{Service: "ec2", Code: "L-1216C47A", Least: 16}, {Service: "vpc", Code: "L-0", Least: 1}}}
	look := func() string {
		var lines []string
		for _, f := range stack.NewReader(o).Inspect(t.Context()) {
			if f.Fault != "" && (!f.Note || f.Remedy == "") {
				t.Errorf("%+v", f)
			}
			lines = append(lines, f.String())
		}
		return strings.Join(lines, "\n")
	}
	want := func(what string, all ...string) {
		t.Helper()
		got := look()
		for _, line := range all {
			if !strings.Contains(got, line) {
				t.Errorf("%s: it lacks %q:\n%s", what, line, got)
			}
		}
	}
	want("before the stacks are made", "aws: account "+stacktest.Number+" in eu-central-1, as AGENT",
		"permission: there is no stack role in eu-central-1: name the stacks",
		"quota: quota ec2 L-1216C47A is 16", "quota: AWS knows no such quota: check the service and the code",
		"endpoint: there is no way to AWS's ecr.api from here: make an interface endpoint com.amazonaws.eu-central-1.ecr.api",
		"endpoint: there is no way to AWS's s3 from here: make a gateway endpoint", "endpoint: there is a way to ec2")
	c.create("7")
	c.SetQuota("ec2/L-1216C47A", 8)
	want("the stacks are there", "permission: the agent may read role, instance",
		"quota: quota ec2 L-1216C47A is 8, below the 16 that are needed: request more in the console: Service Quotas, ec2")
	c.Allow("AGENT", stacktest.Policy{Allow: []string{"cloudformation:*"},
		Deny: []string{"cloudformation:ListChangeSets"}})
	want("without some rights", "permission: AWS denies the agent cloudformation:ListChangeSets: allow it in the agent's",
		"permission: AWS denies the agent ssm:GetParameter", "quota: AWS denies the agent servicequotas:GetServiceQuota")
	if asked := c.Asked("AGENT"); slices.Contains(asked, "cloudformation:DetectStackDrift") {
		t.Errorf("a preflight asked for %v", asked)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	want("no credentials", "aws: the agent has no credentials for AWS: give its pod its role")
	var _ preflight.Inspector = reader()
}

// All that a change set changes is shown, or that the list is cut.
func TestPrepareLargeStack(t *testing.T) {
	c := newCloud(t)
	c.create("7")
	t.Setenv("AWS_ACCESS_KEY_ID", "ADMIN")
	for resources, want := range map[int]stack.Prepared{250: {Changes: make([]stack.ResourceChange, 250)},
		2001: {Changes: make([]stack.ResourceChange, 2000), Cut: true}} {
		text := "Resources:\n"
		for i := range resources {
			text += fmt.Sprintf("  R%d: {Type: B}\n", i)
		}
		p, err := stack.Prepare(t.Context(), stack.Change{Stack: "instance", Name: fmt.Sprint("large-", resources),
			Template: []byte(text)})
		if err != nil || len(p.Changes) != len(want.Changes) || p.Cut != want.Cut {
			t.Errorf("%d resources: %d changes, cut: %t, %v", resources, len(p.Changes), p.Cut, err)
			continue
		}
		names := map[string]bool{}
		for _, change := range p.Changes {
			names[change.Resource] = true
		}
		if len(names) != len(p.Changes) {
			t.Errorf("%d of %d are shown", len(names), len(p.Changes))
		}
	}
}

// A change set is prepared with the values that the stack has, and nothing is executed.
func TestPrepare(t *testing.T) {
	c := newCloud(t)
	c.create("7")
	t.Setenv("AWS_ACCESS_KEY_ID", "ADMIN")
	change := func(parameters ...string) stack.Change {
		o := stack.Change{Stack: "instance", Template: []byte(sample(t, "8/instance.yaml")),
			Parameters: map[string]string{}}
		for _, name := range parameters {
			o.Parameters[name] = "m8i.2xlarge"
		}
		return o
	}
	p, err := stack.Prepare(t.Context(), change("NodeType"))
	if err != nil || p.Name != "sluice-8" || len(p.Changes) == 0 || !strings.HasPrefix(p.Link, "https://") {
		t.Fatalf("%+v, %v", p, err)
	}
	_, err = stack.Prepare(t.Context(), change())
	if err == nil || !strings.Contains(err.Error(), "sluice-8 already: execute or delete it") {
		t.Errorf("a second one of that name: %v", err)
	}
	is := c.wantState("it waits", reader(), "7, applied, read from ; change set sluice-8 is CREATE_COMPLETE: "+p.Link)
	if is.Parameters["NodeType"] != "m7i.xlarge" {
		t.Errorf("parameters %v", is.Parameters)
	}
	_, err = c.admin.ExecuteChangeSet(t.Context(), &cloudformation.ExecuteChangeSetInput{
		StackName: aws.String("instance"), ChangeSetName: aws.String("sluice-8")})
	if err != nil {
		t.Fatal(err)
	}
	is = c.wantState("executed", reader(), "8, applied")
	if is.Parameters["NodeType"] != "m8i.2xlarge" || is.Parameters["ZoneIdA"] != "euc1-az1" {
		t.Errorf("parameters %v", is.Parameters)
	}
	for asked, want := range map[*stack.Change]string{
		{Stack: "other", Template: []byte(sample(t, "8/instance.yaml"))}: "there is no stack other",
		{Stack: "instance", Template: []byte("no template")}:             "AWS refuses cloudformation:GetTemplateSummary",
		{Stack: "instance", Template: []byte(sample(t, "8/instance.yaml"))}: "AWS made no change set: The submitted " +
			"information didn't contain changes",
		{Stack: "instance", Name: "x", Template: []byte("Parameters: {New: {Type: String}}\nResources: {A: {Type: B}}")}: "the " +
			"template needs a value of New: add --parameter",
		{Stack: "instance", Name: "x", Template: []byte("Resources: {A: {Type: B}}"),
			Parameters: map[string]string{"Old": "1"}}: "the template has no parameter Old: leave it out",
		{Stack: "instance", Template: []byte("Resources: {A: {Type: B}}")}: "names no infrastructure update",
	} {
		if _, err := stack.Prepare(t.Context(), *asked); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
