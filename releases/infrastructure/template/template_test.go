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

// added is resources that are added to a sample.
type added struct {
	text     string
	want, at string // as of broken; empty: nothing is wrong with them
}

// What resources of a template bring by a way round is found, and what they need is allowed.
func TestRulesOfAddedResources(t *testing.T) {
	const parameter = "  P: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: x}}\n"
	typed := func(kind, properties string) string {
		return "  Added:\n    Type: " + kind + "\n    Properties: {" + properties + "}\n"
	}
	role := func(principal, more string) string {
		return typed("AWS::IAM::Role", "AssumeRolePolicyDocument: {Version: \"2012-10-17\", Statement: [{Effect: Allow, "+
			"Principal: "+principal+", Action: \"sts:AssumeRole\"}]}"+more)
	}
	managed := func(arns string) string {
		return role("{Service: ec2.amazonaws.com}", ", ManagedPolicyArns: "+arns)
	}
	policy := "  Read: {Type: AWS::IAM::ManagedPolicy, Properties: {PolicyDocument: {Version: \"2012-10-17\", " +
		"Statement: [{Effect: Allow, Action: \"s3:GetObject\", Resource: \"*\"}]}}}\n"
	ingress := func(source string) string {
		return typed("AWS::EC2::SecurityGroup", "GroupDescription: x, SecurityGroupIngress: [{IpProtocol: tcp, "+
			"SourceSecurityGroupId: "+source+"}]")
	}
	provider := func(url string) string {
		return "  Provider: {Type: AWS::IAM::OIDCProvider, Properties: {Url: " + url + "}}\n"
	}
	group := func(access string) string {
		return typed("AWS::EKS::Nodegroup", "ClusterName: x, NodeRole: x, Subnets: [x], RemoteAccess: "+access)
	}
	const outside, computed = "no-outside-principal: Added", "agent-may-not: Added has a managed policy whose name"
	for name, c := range map[string]added{
		"a parameter's value for a principal": {parameter + role("{AWS: !GetAtt P.Value}", ""), outside, "P.Value"},
		"a provider of others": {provider("https://example.com") + role("{Federated: !Ref Provider}", ""), outside,
			"!Ref Provider"},
		"a role as a service": {role("{Service: !GetAtt Added.Arn}", ""), outside, "Added.Arn"},
		"an own role":         {role("{AWS: !GetAtt Added.Arn}", ""), "", ""},
		"the cluster's tokens": {provider("!GetAtt Cluster.OpenIdConnectIssuerUrl") +
			role("{Federated: !Ref Provider}", ""), "", ""},

		"a parameter's value for a group": {parameter + ingress("!GetAtt P.Value"), "no-ingress: Added", "P.Value"},
		"the cluster's group":             {ingress("!GetAtt Cluster.ClusterSecurityGroupId"), "", ""},

		"a policy's name filled in": {managed("[!Sub \"arn:aws:iam::aws:policy/${Cell}\"]"), computed, "${Cell}"},
		"a policy's name joined":    {managed("[!Join [\"\", [arn:aws, x]]]"), computed, "!Join"},
		"policies to fill in":       {managed("!Ref Cell"), computed, "!Ref Cell"},
		"an own policy":             {policy + managed("[!Ref Read, !Ref AWS::NoValue]"), "", ""},

		"a stack set":   {typed("AWS::CloudFormation::StackSet", "A: x"), "unchecked: Added", "Type:"},
		"a macro's own": {typed("AWS::CloudFormation::Macro", "A: x"), "unchecked: Added", "Type:"},
		"a module":      {typed("AWS::CloudFormation::ModuleVersion", "A: x"), "unchecked: Added", "Type:"},
		"a product":     {typed("AWS::ServiceCatalog::CloudFormationProvisionedProduct", "A: x"), "unchecked: Added", "Type:"},
		"no such type":  {typed("AWS::CloudFormation::Stak", "A: x"), "there is no type", "Stak"},
		"a wait handle": {"  Added: {Type: AWS::CloudFormation::WaitConditionHandle}\n", "", ""},

		"a balancer of old": {typed("AWS::ElasticLoadBalancing::LoadBalancer", "Listeners: []"),
			"no-ingress: Added", "Type:"},
		"a balancer inside": {typed("AWS::ElasticLoadBalancing::LoadBalancer", "Listeners: [], Scheme: internal"),
			"", ""},
		"a machine's address": {typed("AWS::EC2::Instance", "NetworkInterfaces: [{DeviceIndex: \"0\", "+
			"AssociatePublicIpAddress: true}]"), "no-ingress: Added", "AssociatePublicIpAddress"},
		"a template's machines": {typed("AWS::EC2::LaunchTemplate", "LaunchTemplateData: {NetworkInterfaces: "+
			"[{AssociatePublicIpAddress: !If [X, false, true]}]}"), "no-ingress: Added", "AssociatePublicIpAddress"},
		"a configuration's machines": {typed("AWS::AutoScaling::LaunchConfiguration", "ImageId: x, InstanceType: x, "+
			"AssociatePublicIpAddress: !Ref Cell"), "no-ingress: Added", "!Ref Cell"},
		"a database": {typed("AWS::RDS::DBInstance", "PubliclyAccessible: true"),
			"no-ingress: Added", "PubliclyAccessible"},
		"a task": {typed("AWS::ECS::Service", "NetworkConfiguration: {AwsvpcConfiguration: {Subnets: [x], "+
			"AssignPublicIp: ENABLED}}"), "no-ingress: Added", "ENABLED"},
		"an address for a machine": {typed("AWS::EC2::EIP", "InstanceId: x"), "no-ingress: Added", "InstanceId"},
		"an address's association": {typed("AWS::EC2::EIPAssociation", "AllocationId: x"),
			"no-ingress: Added", "Type:"},
		"an address for NAT": {typed("AWS::EC2::EIP", "Domain: vpc"), "", ""},

		"SSH from everywhere": {group("{Ec2SshKey: x}"), "no-ingress: Added: RemoteAccess", "Ec2SshKey"},
		"SSH from others":     {group("{Ec2SshKey: x, SourceSecurityGroups: [sg-1]}"), "no-ingress: Added lets", "sg-1"},
		"SSH from here": {group("{Ec2SshKey: x, SourceSecurityGroups: [!GetAtt Cluster.ClusterSecurityGroupId]}"),
			"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			b := broken{"instance", "Resources:\n", "Resources:\n" + c.text, c.want, c.at}
			if c.want != "" {
				b.check(t)
			} else if _, faults := b.faults(t); len(faults) > 0 {
				t.Error(faults)
			}
		})
	}
}

// Whatever changes stacks, or what programs may do, is no program's to do.
func TestForbiddenActions(t *testing.T) {
	for _, action := range []string{"cloudformation:RollbackStack", "cloudformation:ContinueUpdateRollback",
		"cloudformation:CancelUpdateStack", "cloudformation:CreateStackSet", "cloudformation:UpdateStackSet",
		"cloudformation:CreateStackInstances", "iam:UpdateRole", "iam:DeleteRolePolicy", "iam:DetachRolePolicy",
		"iam:PutRolePermissionsBoundary", "iam:DeleteRolePermissionsBoundary", "iam:PutUserPolicy",
		"iam:AttachUserPolicy", "iam:PutGroupPolicy", "iam:AttachGroupPolicy", "iam:CreatePolicyVersion",
		"iam:SetDefaultPolicyVersion"} {
		broken{"role", "- cloudformation:DescribeStacks", "- " + action, "agent-may-not: AgentRole", action}.check(t)
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
