package view

// ImagesSummary sums up how one process of the control plane serves images, since its start.
type ImagesSummary struct {
	Pulls        int64  `json:"pulls" doc:"pulls of cells that were answered"`
	Hits         int64  `json:"hits" doc:"those of them whose content was on disk"`
	FetchedBytes int64  `json:"fetchedBytes" doc:"from registries"`
	ServedBytes  int64  `json:"servedBytes" doc:"to cells: what it is more than fetchedBytes was spared"`
	UsedBytes    int64  `json:"usedBytes" doc:"on disk, and reserved"`
	QuotaBytes   int64  `json:"quotaBytes" doc:"what images may take on disk"`
	Lacking      int64  `json:"lacking" doc:"images of channels' heads that are still being fetched"`
	LackingBytes int64  `json:"lackingBytes" doc:"what is known to be missing of them"`
	Fault        string `json:"fault,omitempty" doc:"why the newest list of registries is not in force"`
}
