package template

import (
	"net/netip"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/sluice-cd/sluice/internal/manifest"
)

const noIngress = "no-ingress: "

// checkIngress is the rule no-ingress: nothing from outside may open a connection.
func (c *checker) checkIngress(r *resource) {
	switch r.kind {
	case "AWS::EC2::SecurityGroup":
		for _, ingress := range items(field(r.properties, "SecurityGroupIngress")) {
			c.checkSource(ingress, r.name)
		}
	case "AWS::EC2::SecurityGroupIngress":
		c.checkSource(r.properties, r.name)
	case "AWS::EKS::Cluster":
		network := field(r.properties, "ResourcesVpcConfig")
		if text, _ := literal(field(network, "EndpointPublicAccess")); !strings.EqualFold(text, "false") {
			c.fault(manifest.Forbidden, r.node, noIngress+"%s: EndpointPublicAccess has to be false; it is true by default",
				r.name)
		}
	case "AWS::EKS::Nodegroup":
		for _, access := range items(field(r.properties, "RemoteAccess")) {
			c.checkRemoteAccess(access, r.name)
		}
	case "AWS::ElasticLoadBalancingV2::LoadBalancer", "AWS::ElasticLoadBalancing::LoadBalancer":
		if text, _ := literal(field(r.properties, "Scheme")); text != "internal" {
			c.fault(manifest.Forbidden, r.node, noIngress+"%s: Scheme has to be internal; it is internet-facing by default",
				r.name)
		}
	case "AWS::EC2::EIPAssociation":
		c.fault(manifest.Forbidden, r.node, noIngress+"%s gives a machine a public address", r.name)
	case "AWS::EC2::EIP": // without a machine it serves a NAT gateway, which lets no one in
		for _, machine := range items(field(r.properties, "InstanceId")) {
			if !c.isNoValue(machine) {
				c.fault(manifest.Forbidden, machine, noIngress+"%s gives a machine a public address", r.name)
			}
		}
	}
	c.checkAddresses(r.properties, r.name)
}

// checkAddresses refuses the properties, at any depth, by which machines, tasks and databases get public addresses.
func (c *checker) checkAddresses(n *yaml.Node, name string) {
	if n == nil {
		return
	}
	for key, value := range pairs(n) {
		private := ""
		switch key.Value {
		case "MapPublicIpOnLaunch", "AssociatePublicIpAddress", "AssociateCarrierIpAddress", "PubliclyAccessible":
			private = "false"
		case "AssignPublicIp":
			private = "DISABLED"
		default:
			continue
		}
		for _, one := range items(value) {
			if text, _ := literal(one); !strings.EqualFold(text, private) && !c.isNoValue(one) {
				c.fault(manifest.Forbidden, one, noIngress+"%s: %s has to be %s: it gives public addresses", name, key.Value,
					private)
			}
		}
	}
	for _, child := range n.Content {
		c.checkAddresses(child, name)
	}
}

// checkRemoteAccess checks from where the nodes of a group take SSH: without groups, from everywhere.
func (c *checker) checkRemoteAccess(n *yaml.Node, name string) {
	if c.isNoValue(n) {
		return
	}
	said := false
	for _, group := range items(field(n, "SourceSecurityGroups")) {
		if !c.isNoValue(group) {
			said = true
			c.checkGroup(group, name)
		}
	}
	if !said {
		c.fault(manifest.Forbidden, n, noIngress+"%s: RemoteAccess without SourceSecurityGroups lets everybody in", name)
	}
}

// checkGroup checks that a security group is of this template.
func (c *checker) checkGroup(n *yaml.Node, name string) {
	if !isOneOf(c.ownResource(n), "AWS::EC2::SecurityGroup", "AWS::EC2::VPC", "AWS::EKS::Cluster") {
		c.fault(manifest.Forbidden, n, noIngress+"%s lets a security group in that is not of this template", name)
	}
}

// checkSource checks where an inbound rule lets connections from: a security group or the VPC of this template, or a
// private range.
func (c *checker) checkSource(n *yaml.Node, name string) {
	if n == nil || c.isNoValue(n) {
		return
	}
	said := false
	for _, key := range []string{"SourcePrefixListId", "SourceSecurityGroupName", "SourceSecurityGroupOwnerId"} {
		if of := field(n, key); of != nil {
			said = true
			c.fault(manifest.Forbidden, of, noIngress+"%s: %s may name others: give SourceSecurityGroupId", name, key)
		}
	}
	for _, group := range items(field(n, "SourceSecurityGroupId")) {
		said = true
		c.checkGroup(group, name)
	}
	for _, cidr := range append(items(field(n, "CidrIp")), items(field(n, "CidrIpv6"))...) {
		said = true
		text, ok := literal(cidr)
		prefix, err := netip.ParsePrefix(text)
		if ok && (err != nil || !isPrivate(prefix)) || !ok && !isOneOf(c.ownResource(cidr), "AWS::EC2::VPC") {
			c.fault(manifest.Forbidden, cidr, noIngress+"%s lets addresses in that are neither private nor the VPC's: give "+
				"!GetAtt VPC.CidrBlock, or a security group", name)
		}
	}
	if !said {
		c.fault(manifest.Forbidden, n, noIngress+"%s does not say whom it lets in", name)
	}
}

func isPrivate(p netip.Prefix) bool {
	for _, text := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"} {
		private := netip.MustParsePrefix(text)
		if private.Contains(p.Addr()) && p.Bits() >= private.Bits() {
			return true
		}
	}
	return false
}
