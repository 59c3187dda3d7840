package template_test

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/sluice-cd/sluice/internal/manifest"
	"github.com/sluice-cd/sluice/releases/infrastructure"
	"github.com/sluice-cd/sluice/releases/infrastructure/template"
)

// sample is the sample product's updates, in the layout of a repository.
func sample() fs.FS { return os.DirFS("../../../fixtures/workspaces") }

// The sample's templates pass the schema and all rules.
func TestSamplesPass(t *testing.T) {
	updates, faults := infrastructure.Load(nil, sample())
	if len(updates) != 2 || len(faults) > 0 {
		t.Fatalf("%d updates, faults %v", len(updates), faults)
	}
	for _, f := range template.CheckAll(sample(), updates) {
		t.Error(f)
	}
}

// broken is a sample with one mistake.
type broken struct {
	file     string // role or instance
	old, new string
	want     string // the fault, after its line
	at       string // text of the line that the fault names
}

func (b broken) faults(t *testing.T) (text string, faults []manifest.Fault) {
	t.Helper()
	data, err := fs.ReadFile(sample(), "infrastructure/8/"+b.file+".yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), b.old) {
		t.Fatalf("%s.yaml has no %q", b.file, b.old)
	}
	text = strings.Replace(string(data), b.old, b.new, 1)
	return text, template.Check(b.file+".yaml", []byte(text), 8, b.file == "instance")
}

func (b broken) check(t *testing.T) {
	t.Helper()
	text, faults := b.faults(t)
	for _, f := range faults {
		if strings.Contains(f.Message, b.want) {
			if lines := strings.Split(text, "\n"); f.Line < 1 || !strings.Contains(lines[f.Line-1], b.at) {
				t.Errorf("%s: its line is not the one with %q", f, b.at)
			}
			return
		}
	}
	t.Errorf("faults %v, want %q", faults, b.want)
}

// Each of our rules finds what breaks it, and names its line.
func TestRules(t *testing.T) {
	cidr := "CidrIp: !GetAtt Vpc.CidrBlock, Description"
	ingress := func(source string) string { return source + ", Description" }
	trust := "Principal: {Service: pods.eks.amazonaws.com}"
	action := "- cloudformation:DescribeStacks"
	for name, b := range map[string]broken{
		"anybody":              {"instance", cidr, ingress("CidrIp: 0.0.0.0/0"), "no-ingress: Endp", "0.0.0.0/0"},
		"anybody by IPv6":      {"instance", cidr, ingress("CidrIp: !GetAtt Vpc.CidrBlock, CidrIpv6: '::/0'"), "no-ingress", "::/0"},
		"a wide private range": {"instance", cidr, ingress("CidrIp: 10.0.0.0/7"), "no-ingress", "10.0.0.0/7"},
		"a parameter":          {"instance", cidr, ingress("CidrIp: !Ref VpcCidr"), "no-ingress", "!Ref VpcCidr"},
		"another's group": {"instance", cidr, ingress("SourceSecurityGroupId: sg-0123"), "no-ingress",
			"sg-0123"},
		"a prefix list": {"instance", cidr, ingress("SourcePrefixListId: pl-0123"), "no-ingress", "pl-0123"},
		"nobody named":  {"instance", cidr, "Description", "does not say whom it lets in", "IpProtocol"},
		"on a condition": {"instance", cidr, ingress("CidrIp: !If [X, 0.0.0.0/0, 10.0.0.0/8]"), "no-ingress",
			"!If"},
		"public cluster": {"instance", "EndpointPublicAccess: false", "EndpointPublicAccess: true",
			"no-ingress: Cluster", "Type: AWS::EKS::Cluster"},
		"public by default": {"instance", "        EndpointPublicAccess: false\n", "", "no-ingress: Cluster",
			"Type: AWS::EKS::Cluster"},
		"public subnet": {"instance", "MapPublicIpOnLaunch: false", "MapPublicIpOnLaunch: true",
			"no-ingress: SubnetA", "MapPublicIpOnLaunch"},
		"everybody":         {"role", trust, "Principal: \"*\"", "no-wildcard-trust: AgentRole", "Principal"},
		"every account":     {"role", trust, "Principal: {AWS: [\"*\"]}", "no-wildcard-trust", "AWS"},
		"all but one":       {"role", trust, "NotPrincipal: {AWS: !Ref AWS::AccountId}", "no-wildcard-trust", "NotPrincipal"},
		"everybody, hidden": {"role", trust, "Principal: !If [X, {AWS: \"*\"}, {AWS: \"*\"}]", "no-wildcard-trust", "!If"},
		"an account": {"role", trust, "Principal: {AWS: \"123456789012\"}", "no-outside-principal",
			"123456789012"},
		"another's role":        {"role", trust, "Principal: {AWS: \"arn:aws:iam::123456789012:role/x\"}", "no-outside-principal", "123456789012"},
		"an account to fill in": {"role", trust, "Principal: {AWS: !Ref Cell}", "no-outside-principal", "!Ref Cell"},
		"federated":             {"role", trust, "Principal: {Federated: accounts.example}", "no-outside-principal", "accounts.example"},
		"a computed policy":     {"role", "      AssumeRolePolicyDocument:\n", "      AssumeRolePolicyDocument: !Ref Cell\n      X:\n", "the policy is computed", "!Ref Cell"},
		"execute": {"role", action, "- cloudformation:ExecuteChangeSet", "agent-may-not: AgentRole",
			"ExecuteChangeSet"},
		"in other letters": {"role", action, "- CloudFormation:executechangeset", "agent-may-not",
			"executechangeset"},
		"by a pattern": {"role", action, "- cloudformation:E*Set", "executechangeset", "E*Set"},
		"everything":   {"role", action, "- \"*\"", "agent-may-not", "*"},
		"pass a role":  {"role", action, "- iam:Pass*", "iam:passrole", "iam:Pass*"},
		"all but": {"role", "Action: [\"ssm:GetParameter\", \"ssm:GetParameters\"]", "NotAction: ssm:GetParameter",
			"agent-may-not", "NotAction"},
		"a managed policy": {"role", "policy/AmazonEKS_CNI_Policy", "policy/AdministratorAccess",
			"agent-may-not: NodeRole", "AdministratorAccess"},
		"no metadata": {"role", "  Sluice: {Infrastructure: 8}\n", "  Other: 1\n", "version: Metadata has no",
			"AWSTemplateFormatVersion"},
		"another in metadata": {"role", "{Infrastructure: 8}", "{Infrastructure: 7}",
			"version: Metadata says \"7\"", "Infrastructure: 7"},
		"another in the parameter": {"instance", "Value: \"8\"", "Value: \"7\"",
			"version: InfrastructureVersion", "Value: \"7\""},
		"no parameter": {"instance", "  InfrastructureVersion:\n", "  Version:\n",
			"version: the last template has no", "AWSTemplateFormatVersion"},
		"not described": {"instance", "    Description: Instance type of the cluster's nodes.\n", "", "described: parameter NodeType", "NodeType"},
		"a macro":       {"instance", "Description: Network", "Transform: AWS::LanguageExtensions\nDescription: Network", "unchecked", "AWSTemplateFormatVersion"},
		"an included policy": {"role", action, "- Fn::Transform: {Name: AWS::Include}", "unchecked",
			"AWSTemplateFormatVersion"},
		"a nested stack":    {"instance", "  PodIdentity:\n    Type: AWS::EKS::Addon", "  PodIdentity:\n    Type: AWS::CloudFormation::Stack", "unchecked: PodIdentity", "Type"},
		"a custom resource": {"instance", "  PodIdentity:\n    Type: AWS::EKS::Addon", "  PodIdentity:\n    Type: Custom::Thing", "unchecked: PodIdentity", "Type"},
	} {
		t.Run(name, b.check)
	}
}

// What AWS's schema and the references refuse, with the line.
func TestSchemaAndReferences(t *testing.T) {
	for name, b := range map[string]broken{
		"unknown type": {"instance", "AWS::EKS::Nodegroup", "AWS::EKS::NodeGroup",
			"there is no type \"AWS::EKS::NodeGroup\"", "NodeGroup"},
		"unknown property": {"instance", "EnableDnsHostnames: true", "EnableDnsHostname: true",
			"Vpc has no property \"EnableDnsHostname\"", "EnableDnsHostname"},
		"one below":        {"instance", "MinSize: 2", "Min: 2", "Nodes.ScalingConfig has no property \"Min\"", "Min: 2"},
		"missing property": {"instance", "      NodeRole: !ImportValue {\"Fn::Sub\": \"sluice-${Cell}-node-role\"}\n", "", "Nodes needs NodeRole", "ClusterName"},
		"scalar for a list": {"instance", "InstanceTypes: [!Ref NodeType]", "InstanceTypes: m7i.xlarge",
			"Nodes.InstanceTypes is a list", "InstanceTypes"},
		"list for a scalar": {"instance", "EnableDnsSupport: true", "EnableDnsSupport: [true]",
			"is of type boolean", "EnableDnsSupport"},
		"text for a number": {"instance", "RetentionInDays: 90", "RetentionInDays: ninety",
			"is of type integer, and \"ninety\" is not", "ninety"},
		"text for a boolean": {"instance", "EnableDnsSupport: true", "EnableDnsSupport: maybe",
			"is of type boolean, and \"maybe\" is not", "maybe"},
		"no value": {"instance", "EnableDnsSupport: true", "EnableDnsSupport:", "has no value",
			"EnableDnsSupport"},
		"unknown reference": {"instance", "SubnetId: !Ref SubnetA", "SubnetId: !Ref SubnetC", "neither a parameter nor a resource \"SubnetC\"", "SubnetC"},
		"in a text": {"instance", "Name: !Sub sluice-${Cell}\n", "Name: !Sub sluice-${Cel}\n",
			"resource \"Cel\"", "${Cel}"},
		"unknown attribute": {"instance", "NodeTemplate.LatestVersionNumber", "NodeTemplate.Latest",
			"has no attribute \"Latest\"", "Latest"},
		"attribute of none": {"role", "!GetAtt NodeRole.Arn", "!GetAtt Node.Arn", "has no resource \"Node\"",
			"Node.Arn"},
		"depends on none": {"instance", "DependsOn: PodIdentity", "DependsOn: PodIdentities",
			"depends on \"PodIdentities\"", "PodIdentities"},
		"unknown condition": {"instance", "    DependsOn: PodIdentity\n", "    Condition: Big\n",
			"there is no condition \"Big\"", "Big"},
		"unknown section": {"instance", "Outputs:", "Output:", "\"Output\" is no section", "Output"},
		"unknown attribute of a resource": {"instance", "DeletionPolicy: Retain", "DeletePolicy: Retain",
			"no attribute of a resource", "DeletePolicy"},
		"twice": {"instance", "EnableDnsSupport: true", "EnableDnsHostnames: true", "is there twice",
			"EnableDnsHostnames"},
		"an alias": {"instance", "EnableDnsSupport: true", "EnableDnsSupport: &x true",
			"CloudFormation reads no aliases", "&x"},
	} {
		t.Run(name, b.check)
	}
}

// What is no template at all, or too much of one, is one fault and not a crash.
func TestBadDocuments(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"empty":     {"", "is no template"},
		"a list":    {"- a\n", "is no template"},
		"no YAML":   {"Resources: [\n", "is no YAML"},
		"binary":    {"\x00\x01", "is no YAML"},
		"nothing":   {"Description: x\n", "has no Resources"},
		"too large": {"Description: " + strings.Repeat("x", template.MaxURL), "size: has"},
		"inline":    {"Description: " + strings.Repeat("x", template.MaxInline), "a template has to be in a bucket"},
		"too deep":  {"Resources: " + strings.Repeat("{a: ", 200) + strings.Repeat("}", 200), "is nested deeper"},
		"a bomb":    {"a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\nResources: {}\n", "no aliases"},
	} {
		found := fmt.Sprint(template.Check("t.yaml", []byte(c.text), 8, false))
		if !strings.Contains(found, c.want) {
			t.Errorf("%s: %.300s, want %q", name, found, c.want)
		}
	}
}

func FuzzCheck(f *testing.F) {
	for _, file := range []string{"role", "instance"} {
		data, err := fs.ReadFile(sample(), "infrastructure/8/"+file+".yaml")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("Resources: {A: {Type: AWS::IAM::Role, Properties: !If [a, b]}}"))
	f.Fuzz(func(t *testing.T, data []byte) { template.Check("t.yaml", data, 8, true) })
}
