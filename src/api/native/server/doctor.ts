import { z } from 'zod';
import { operation } from '../../operation.ts';

/** Ours: what this server has found out about the machine it runs on. */
export const doctor = operation({
  id: 'doctor',
  method: 'get',
  path: '/v1/doctor',
  tag: 'server',
  summary: 'Report what this server can and can not do on its machine',
  response: z.looseObject({ type: z.literal('doctor_report') }),
  async run({ deps }) {
    return { body: { ...(await deps.doctor()), type: 'doctor_report', version: deps.version } };
  },
});
