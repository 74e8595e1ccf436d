/** Every operation of the native API: what is served and what is described, in one list. */
import type { Operation } from '../operation.ts';
import { archiveAgent } from './agents/archive.ts';
import { createAgent } from './agents/create.ts';
import { listAgents } from './agents/list.ts';
import { listAgentVersions } from './agents/list-versions.ts';
import { retrieveAgent } from './agents/retrieve.ts';
import { updateAgent } from './agents/update.ts';
import { createCheckpoint } from './checkpoints/create.ts';
import { deleteCheckpoint } from './checkpoints/delete.ts';
import { forkSession } from './checkpoints/fork.ts';
import { listCheckpoints } from './checkpoints/list.ts';
import { retrieveCheckpoint } from './checkpoints/retrieve.ts';
import { rollBackSession } from './checkpoints/rollback.ts';
import { archiveEnvironment } from './environments/archive.ts';
import { buildEnvironment, retrieveEnvironmentBuild } from './environments/build.ts';
import { createEnvironment } from './environments/create.ts';
import { deleteEnvironment } from './environments/delete.ts';
import { cleanEnvironmentLayers, listEnvironmentLayers } from './environments/layers.ts';
import { listEnvironments } from './environments/list.ts';
import { listEnvironmentVersions } from './environments/list-versions.ts';
import { retrieveEnvironment } from './environments/retrieve.ts';
import { rollBackEnvironment } from './environments/rollback.ts';
import { updateEnvironment } from './environments/update.ts';
import { listEvents } from './events/list.ts';
import { sendEvents } from './events/send.ts';
import { streamEvents } from './events/stream.ts';
import { downloadFile } from './files/content.ts';
import { deleteFile } from './files/delete.ts';
import { listFiles } from './files/list.ts';
import { retrieveFile } from './files/retrieve.ts';
import { uploadFile } from './files/upload.ts';
import { listHosts } from './hosts/list.ts';
import { declareHostLost } from './hosts/lost.ts';
import { revokeHostToken } from './hosts/revoke-token.ts';
import { listHostTokens } from './hosts/tokens.ts';
import { listWorkers } from './hosts/workers.ts';
import { doctor } from './server/doctor.ts';
import { fsck } from './server/fsck.ts';
import { archiveSession } from './sessions/archive.ts';
import { createSession } from './sessions/create.ts';
import { deleteSession } from './sessions/delete.ts';
import { deliverSession } from './sessions/deliver.ts';
import { diffSession } from './sessions/diff.ts';
import { listSessions } from './sessions/list.ts';
import { listSessionResources } from './sessions/list-resources.ts';
import { replaySession } from './sessions/replay.ts';
import { retrieveSession } from './sessions/retrieve.ts';
import { retrieveSessionResource } from './sessions/retrieve-resource.ts';
import { updateSession } from './sessions/update.ts';
import { archiveThread } from './threads/archive.ts';
import { listThreads } from './threads/list.ts';
import { listThreadEvents } from './threads/list-events.ts';
import { retrieveThread } from './threads/retrieve.ts';
import { streamThreadEvents } from './threads/stream-events.ts';
import { archiveVault } from './vaults/archive.ts';
import { createVault } from './vaults/create.ts';
import { archiveCredential } from './vaults/credentials/archive.ts';
import { createCredential } from './vaults/credentials/create.ts';
import { deleteCredential } from './vaults/credentials/delete.ts';
import { listCredentials } from './vaults/credentials/list.ts';
import { retrieveCredential } from './vaults/credentials/retrieve.ts';
import { updateCredential } from './vaults/credentials/update.ts';
import { validateCredential } from './vaults/credentials/validate.ts';
import { deleteVault } from './vaults/delete.ts';
import { listVaults } from './vaults/list.ts';
import { retrieveVault } from './vaults/retrieve.ts';
import { rotateVaultKeys } from './vaults/rotate-keys.ts';
import { updateVault } from './vaults/update.ts';

export const operations: readonly Operation[] = [
  createAgent,
  listAgents,
  retrieveAgent,
  updateAgent,
  archiveAgent,
  listAgentVersions,
  createEnvironment,
  listEnvironments,
  retrieveEnvironment,
  updateEnvironment,
  deleteEnvironment,
  archiveEnvironment,
  listEnvironmentVersions,
  rollBackEnvironment,
  buildEnvironment,
  retrieveEnvironmentBuild,
  listEnvironmentLayers,
  cleanEnvironmentLayers,
  createSession,
  listSessions,
  retrieveSession,
  updateSession,
  deleteSession,
  archiveSession,
  listSessionResources,
  retrieveSessionResource,
  diffSession,
  deliverSession,
  replaySession,
  createCheckpoint,
  listCheckpoints,
  retrieveCheckpoint,
  deleteCheckpoint,
  forkSession,
  rollBackSession,
  sendEvents,
  listEvents,
  streamEvents,
  listThreads,
  retrieveThread,
  archiveThread,
  listThreadEvents,
  streamThreadEvents,
  uploadFile,
  listFiles,
  retrieveFile,
  downloadFile,
  deleteFile,
  createVault,
  listVaults,
  retrieveVault,
  updateVault,
  deleteVault,
  archiveVault,
  createCredential,
  listCredentials,
  retrieveCredential,
  updateCredential,
  deleteCredential,
  archiveCredential,
  validateCredential,
  rotateVaultKeys,
  doctor,
  listHosts,
  declareHostLost,
  listHostTokens,
  revokeHostToken,
  listWorkers,
  fsck,
];
