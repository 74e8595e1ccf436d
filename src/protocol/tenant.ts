/** The one organisation and project of a server that has not been told of others. */
export const defaultTenant = { organization: 'org_default', project: 'proj_default' } as const;
