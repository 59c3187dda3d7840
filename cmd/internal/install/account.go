package install

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"text/template"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/cells/infrastructure/stack"
	"github.com/sluice-cd/sluice/internal/aws"
	"github.com/sluice-cd/sluice/internal/manifest/edit"
	"github.com/sluice-cd/sluice/internal/words"
	"github.com/sluice-cd/sluice/releases/infrastructure"
)

//go:embed account.md
var accountPage string

// Account is a cell in an AWS account of its own, which its customer makes by an infrastructure update's templates.
type Account struct {
	Cell, Region string
	Address      string   // HOST:PORT of the control plane, as the token has it
	Pins         []string // of its keys
	Service      string   // the vendor's endpoint service
	Zones        []string // AZ IDs that it is in
	Customer     string   // number of the customer's account; empty: not known yet
	TemplateURL  string   // of a folder in a bucket, with the templates; empty: they are uploaded
	Namespace    string   // of the agent
	Update       infrastructure.Update
	Parameters   map[string]string // chosen by people, by name

	Stacks []Stack // Fill adds them
}

// Stack is one template of an account, and the stack that is made of it.
type Stack struct {
	File, Name string
	Template   []byte   // with the parameters filled in
	Open       []string // parameters without a value: the customer decides
	Link       string   // quick-create; empty: the file is uploaded
	Resources  []Resource
	capability string
}

// Resource is one thing that a stack makes.
type Resource struct{ Name, Kind, Why string }

var (
	servicePattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^com\.amazonaws\.vpce\.([a-z0-9-]+)\.vpce-svc-[0-9a-f]+$`)
	})
	zonePattern = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[a-z]{2,5}[0-9]-az[0-9]{1,2}$`)
	})
	accountPattern = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[0-9]{12}$`) })
	regionPattern  = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-[0-9]$`) })
)

// Check returns what is wrong with what people chose, and sets the region of the endpoint service.
func (a *Account) Check() error {
	found := servicePattern().FindStringSubmatch(a.Service)
	if found == nil {
		return errors.New("--endpoint-service must be the service's name, com.amazonaws.vpce.REGION.vpce-svc-…")
	}
	a.Region = cmp.Or(a.Region, found[1])
	if !regionPattern().MatchString(a.Region) {
		return fmt.Errorf("--region %.40q is no region", a.Region)
	}
	if a.Customer != "" && !accountPattern().MatchString(a.Customer) {
		return fmt.Errorf("--account %.40q is no account: 12 digits", a.Customer)
	}
	for _, zone := range a.Zones {
		if !zonePattern().MatchString(zone) {
			return fmt.Errorf("--zone-id %.40q is no AZ ID, such as use1-az1: names such as us-east-1a differ between "+
				"accounts", zone)
		}
	}
	if a.TemplateURL == "" {
		return nil
	}
	u, err := url.Parse(a.TemplateURL)
	if err != nil || u.Scheme != "https" || u.RawQuery != "" ||
		!strings.HasSuffix(u.Hostname(), ".amazonaws.com") && !strings.HasSuffix(u.Hostname(), ".amazonaws.com.cn") {
		return errors.New("--template-url must be https://BUCKET.s3.REGION.amazonaws.com/FOLDER: AWS's links take " +
			"templates from S3 alone")
	}
	return nil
}

// Port returns the control plane's port.
func (a *Account) Port() string {
	_, port, _ := net.SplitHostPort(a.Address)
	return port
}

// Principal returns whom the endpoint service has to allow.
func (a *Account) Principal() string {
	return "arn:" + aws.Partition(a.Region) + ":iam::" + cmp.Or(a.Customer, "YOUR-ACCOUNT") + ":root"
}

// StackName returns the name of the stack of a template.
func (a *Account) StackName(name string) string { return "sluice-" + a.Cell + "-" + name }

// Reads returns the agent's flag by which it reads the stacks.
func (a *Account) Reads() string {
	var names []string
	for _, name := range a.Update.Order {
		names = append(names, a.StackName(name))
	}
	return "aws:" + strings.Join(names, ",")
}

// Quotas returns the quotas that the update needs, as the agent's flags have them.
func (a *Account) Quotas() (all []string) {
	for _, q := range a.Update.Quotas {
		all = append(all, fmt.Sprintf("%s/%s=%g", q.Service, q.Code, q.Least))
	}
	return all
}

// LastStack returns the name of the stack that is made last, which has the version and the control plane's address.
func (a *Account) LastStack() string { return a.StackName(a.Update.Order[len(a.Update.Order)-1]) }

// values returns what is known, by the name of the parameter that takes it.
func (a *Account) values() map[string]string {
	known := map[string]string{"Cell": a.Cell, "ControlPlaneService": a.Service, "ControlPlanePort": a.Port(),
		"ControlPlaneAddress": a.Address, "ControlPlanePins": strings.Join(a.Pins, ","),
		"TokenSecret": a.Namespace + "/" + JoinSecret}
	for _, name := range a.Update.Order {
		known[strings.ToUpper(name[:1])+name[1:]+"Stack"] = a.StackName(name)
	}
	maps.Copy(known, a.Parameters)
	return known
}

// parameter is what counts of a template's parameter.
type parameter struct {
	Type           string    `yaml:"Type"`
	Default        yaml.Node `yaml:"Default"`
	AllowedPattern string    `yaml:"AllowedPattern"`
	AllowedValues  yaml.Node `yaml:"AllowedValues"`
}

// Fill adds the stack of a template, with what is known as the defaults of its parameters. All else of the template
// stays as it is. file is its path in the repository.
func (a *Account) Fill(file string, text []byte) error {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil || len(document.Content) == 0 {
		return fmt.Errorf("%s is no template", file)
	}
	name := strings.TrimSuffix(path.Base(file), ".yaml")
	s := Stack{File: path.Base(file), Name: a.StackName(name), Template: text,
		capability: capabilityOf(document.Content[0])}
	known, zones := a.values(), a.Zones
	link := url.Values{}
	declared := fieldsOf(fieldOf(document.Content[0], "Parameters"))
	for _, f := range declared {
		var p parameter
		if err := f.value.Decode(&p); err != nil {
			return fmt.Errorf("%s: parameter %.80q: %w", file, f.name, err)
		}
		value, ok := known[f.name]
		if !ok && strings.HasPrefix(f.name, "ZoneId") && len(zones) > 0 {
			value, zones, ok = zones[0], zones[1:], true
		}
		if !ok {
			if p.Default.IsZero() {
				s.Open = append(s.Open, f.name)
			}
			continue
		}
		if err := p.check(value); err != nil {
			return fmt.Errorf("%s: parameter %.80q: %w", file, f.name, err)
		}
		var set any = value
		if p.Type == "Number" {
			set = yamlNumber(value)
		}
		var err error
		if s.Template, err = edit.Set(s.Template, []string{"Parameters", f.name, "Default"}, set); err != nil {
			return fmt.Errorf("%s: parameter %.80q: %w", file, f.name, err)
		}
		link.Set("param_"+f.name, value)
	}
	if a.TemplateURL != "" {
		link.Set("templateURL", strings.TrimRight(a.TemplateURL, "/")+"/"+s.File)
		link.Set("stackName", s.Name)
		s.Link = fmt.Sprintf("https://%s/cloudformation/home?region=%s#/stacks/create/review?%s", stack.Console(a.Region), a.Region,
			strings.ReplaceAll(link.Encode(), "+", "%20"))
	}
	for _, f := range fieldsOf(fieldOf(document.Content[0], "Resources")) {
		kind := fieldOf(f.value, "Type")
		if kind != nil {
			s.Resources = append(s.Resources, Resource{f.name, kind.Value, reasons()[kind.Value]})
		}
	}
	a.Stacks = append(a.Stacks, s)
	return nil
}

// check returns why a value can't be the parameter's. A pattern that only Java understands is left to AWS.
func (p *parameter) check(value string) error {
	if pattern, err := regexp.Compile(`^(?:` + p.AllowedPattern + `)$`); p.AllowedPattern != "" && err == nil &&
		!pattern.MatchString(value) {
		return fmt.Errorf("%.100q does not match its AllowedPattern %.200s", value, p.AllowedPattern)
	}
	allowed := p.AllowedValues.Content
	if len(allowed) > 0 && !slices.ContainsFunc(allowed, func(n *yaml.Node) bool { return n.Value == value }) {
		return fmt.Errorf("%.100q is none of its AllowedValues", value)
	}
	if p.Type == "Number" && yamlNumber(value) == nil {
		return fmt.Errorf("%.100q is no number", value)
	}
	return nil
}

// CheckParameters returns an error if a parameter that people chose is in no template, or AZ IDs are missing.
func (a *Account) CheckParameters() error {
	var text strings.Builder
	for _, s := range a.Stacks {
		text.Write(s.Template)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Parameters)) {
		if !regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(name) + `:`).MatchString(text.String()) {
			return fmt.Errorf("--parameter %s: no template has it", name)
		}
	}
	return nil
}

// Command returns what makes the stack by the command line.
func (s Stack) command(region string) string {
	text := "aws cloudformation deploy --region " + region + " --stack-name " + s.Name + " --template-file " + s.File
	if s.capability != "" {
		text += " --capabilities " + s.capability
	}
	if len(s.Template) > stack.MaxInline {
		text += " --s3-bucket A-BUCKET-OF-YOURS"
	}
	return text
}

// Page returns the page for the customer, in Markdown.
func (a *Account) Page() (string, error) {
	type executed struct {
		Stack
		Command string
	}
	var stacks []executed
	for _, s := range a.Stacks {
		stacks = append(stacks, executed{s, s.command(a.Region)})
	}
	return execute("account", accountPage, template.FuncMap{
		"line": words.OneLine, "inc": func(n int) int { return n + 1 },
		"join": func(all []string) string { return cmp.Or(strings.Join(all, ", "), "ask your vendor") },
	}, struct {
		*Account
		Stacks         []executed
		Notes, Install string
	}{a, stacks, words.OneLine(a.Update.Notes), a.install()})
}

// AddressPlaceholder stands in the agent's manifest for the address that the last stack has as its output.
const AddressPlaceholder = "CONTROL-PLANE-ADDRESS"

func (a *Account) install() string {
	return strings.Join([]string{
		"aws eks update-kubeconfig --region " + a.Region + " --name sluice-" + a.Cell,
		"ADDRESS=$(aws cloudformation describe-stacks --region " + a.Region + " --stack-name " + a.LastStack() + ` \`,
		`  --query "Stacks[0].Outputs[?OutputKey=='ControlPlaneAddress'].OutputValue" --output text)`,
		`sed "s/` + AddressPlaceholder + `/$ADDRESS/" agent.yaml | kubectl apply -f -`,
		"kubectl -n " + a.Namespace + " create secret generic " + JoinSecret + " --from-file=token=join.token",
		"kubectl -n " + a.Namespace + " rollout restart statefulset sluice-agent",
	}, "\n")
}

// field is one field of a mapping in YAML.
type field struct {
	name  string
	value *yaml.Node
}

func fieldsOf(n *yaml.Node) (all []field) {
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		all = append(all, field{n.Content[i].Value, n.Content[i+1]})
	}
	return all
}

func fieldOf(n *yaml.Node, name string) *yaml.Node {
	for _, f := range fieldsOf(n) {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

// capabilityOf returns what a customer has to acknowledge: that a template makes roles, and that it names them.
func capabilityOf(root *yaml.Node) (capability string) {
	for _, f := range fieldsOf(fieldOf(root, "Resources")) {
		kind := fieldOf(f.value, "Type")
		if kind == nil || !strings.HasPrefix(kind.Value, "AWS::IAM::") {
			continue
		}
		properties := fieldOf(f.value, "Properties")
		for _, name := range []string{"RoleName", "UserName", "GroupName", "ManagedPolicyName", "InstanceProfileName"} {
			if fieldOf(properties, name) != nil {
				return "CAPABILITY_NAMED_IAM"
			}
		}
		capability = "CAPABILITY_IAM"
	}
	return capability
}

// yamlNumber returns the number that a text is; nil: it is none.
func yamlNumber(text string) any {
	var n any
	if yaml.Unmarshal([]byte(text), &n) != nil {
		return nil
	}
	switch n.(type) {
	case int, int64, float64:
		return n
	}
	return nil
}

// reasons says what types of resources are for, as a customer's security team asks.
func reasons() map[string]string {
	return map[string]string{
		"AWS::EC2::VPC":                             "the cell's network, of its own",
		"AWS::EC2::Subnet":                          "a private part of the network, in one zone",
		"AWS::EC2::RouteTable":                      "routes inside the network; none leads to the internet",
		"AWS::EC2::SubnetRouteTableAssociation":     "the subnet uses these routes",
		"AWS::EC2::SecurityGroup":                   "who inside the network may reach an endpoint; nobody outside",
		"AWS::EC2::VPCEndpoint":                     "a way out to one service, by AWS PrivateLink; nothing comes in",
		"AWS::EC2::LaunchTemplate":                  "how nodes are made: encrypted disks, IMDSv2 alone",
		"AWS::EKS::Cluster":                         "the cluster that runs the product; its endpoint is private",
		"AWS::EKS::Nodegroup":                       "the cluster's machines",
		"AWS::EKS::Addon":                           "a part of the cluster that AWS maintains",
		"AWS::EKS::PodIdentityAssociation":          "gives the agent's pod its role, and no other pod",
		"AWS::IAM::Role":                            "rights of one part; see the template for each",
		"AWS::IAM::InstanceProfile":                 "gives machines their role",
		"AWS::KMS::Key":                             "a key of yours, which encrypts the cluster's secrets",
		"AWS::Logs::LogGroup":                       "logs, which stay in your account",
		"AWS::SSM::Parameter":                       "which infrastructure update is executed; the agent reads it",
		"AWS::Route53::HostedZone":                  "names inside the network",
		"AWS::Route53::RecordSet":                   "a name inside the network",
		"AWS::S3::Bucket":                           "storage of the product, in your account",
		"AWS::RDS::DBInstance":                      "the product's database",
		"AWS::RDS::DBCluster":                       "the product's database",
		"AWS::EC2::SecurityGroupIngress":            "who inside the network may connect",
		"AWS::EC2::SecurityGroupEgress":             "where connections may go",
		"AWS::ECR::PullThroughCacheRule":            "images by way of your own registry",
		"AWS::SecretsManager::Secret":               "a secret of the product, in your account",
		"AWS::ElasticLoadBalancingV2::LoadBalancer": "spreads requests inside the network",
	}
}
