"""Features of sound, as both papers have them: logarithms of the energy in 40 bands of a mel scale.

The package kaldi-native-fbank computes them, as Kaldi does.
"""

import numpy as np
from numpy.typing import NDArray

from thinwire.needed import needed

MEL_BANDS = 40
FRAMES_A_SECOND = 100


def log_mel(samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
    """Return log mel energies, without noise added.

    Args:
        samples: of one channel, between -1 and 1.
        rate: samples a second; bands reach from 20 Hz to 8 kHz, or half the rate if that is less.

    Returns:
        float32 [frames, 40]: a frame of 25 ms every 10 ms, those that fit in whole.

    Raises:
        MissingPackageError: kaldi-native-fbank is not installed.
    """
    fbank = needed("kaldi_native_fbank")
    options = fbank.FbankOptions()
    options.frame_opts.samp_freq = rate
    options.frame_opts.dither = 0.0
    options.frame_opts.snip_edges = True
    options.mel_opts.num_bins = MEL_BANDS
    options.mel_opts.high_freq = min(8000.0, rate / 2)
    online = fbank.OnlineFbank(options)
    online.accept_waveform(rate, (samples * 32768.0).tolist())
    online.input_finished()
    frames = [online.get_frame(number) for number in range(online.num_frames_ready)]
    return np.array(frames, np.float32).reshape(-1, MEL_BANDS)
