import { type Problem, problem } from '../../../protocol/errors.ts';
import { HostUnreachable } from '../../../sandbox/executor.ts';

/** What a host answers, or that it cannot be asked now. */
export async function orUnavailable<T>(answer: Promise<T> | undefined): Promise<T | Problem | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (!(error instanceof HostUnreachable)) throw error;
    return problem('unavailable', 'The sandbox host cannot be reached now. Try again.');
  }
}
