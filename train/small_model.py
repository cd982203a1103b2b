"""The parts of the small model, with random weights: autoencoder, UNet, tokenizer, text encoder."""

from diffusers import AutoencoderTiny, UNet2DConditionModel
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from .config import EmbeddedModelConfig

HEAD_WIDTH = 32
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")


def new_vae(config: EmbeddedModelConfig) -> AutoencoderTiny:
    """An autoencoder with random weights; every level but the first halves the picture's sides."""
    channels = [config.vae_channels] * len(config.vae_blocks)
    return AutoencoderTiny(
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        num_encoder_blocks=list(config.vae_blocks),
        num_decoder_blocks=list(reversed(config.vae_blocks)),
        latent_channels=4,
    )


def new_unet(config: EmbeddedModelConfig, latent_channels: int, sample_size: int) -> UNet2DConditionModel:
    """A UNet with random weights that sees the gray latent too and attends to the text below its first level."""
    levels = len(config.unet_channels)
    return UNet2DConditionModel(
        sample_size=sample_size,
        in_channels=2 * latent_channels,
        out_channels=latent_channels,
        block_out_channels=list(config.unet_channels),
        layers_per_block=config.layers_per_block,
        down_block_types=["DownBlock2D"] + ["CrossAttnDownBlock2D"] * (levels - 1),
        up_block_types=["CrossAttnUpBlock2D"] * (levels - 1) + ["UpBlock2D"],
        cross_attention_dim=config.text_width,
        attention_head_dim=[channels // HEAD_WIDTH for channels in config.unet_channels],
    )


def new_tokenizer(config: EmbeddedModelConfig, captions: list[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer learned from the captions."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=config.max_tokens,
    )


def new_text_encoder(config: EmbeddedModelConfig, vocabulary: int) -> CLIPTextModel:
    """A text encoder with random weights."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=config.text_width,
            intermediate_size=4 * config.text_width,
            projection_dim=config.text_width,
            num_hidden_layers=config.text_layers,
            num_attention_heads=max(config.text_width // 64, 1),
            max_position_embeddings=config.max_tokens,
            hidden_act="gelu",
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )
    )
